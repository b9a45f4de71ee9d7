"""``night_seg_bag``: make a drive from a folder of frames, play a drive over ROS."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nightseg_ros.evaluation.bags import BagError
from nightseg_ros.evaluation.bags import folder_frames
from nightseg_ros.evaluation.bags import write_drive


def main(arguments: list[str] | None = None) -> int:
    """Run the command; exit code 2 on bad input."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except BagError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='night_seg_bag', description=__doc__)
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    make = commands.add_parser('make', help='write the images of a folder as a rosbag2')
    make.add_argument('folder', type=Path, help='images, or images/ beside labels/ (trainId PNGs)')
    make.add_argument('bag', type=Path, help='the bag to write')
    make.add_argument('--rate', type=float, default=10.0, help='frames per second (default 10)')
    make.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap')
    make.add_argument('--compressed', action='store_true', help='write JPEG CompressedImage')
    make.set_defaults(run=_make)

    play = commands.add_parser('play', help='publish a bag over ROS')
    play.add_argument('bag', type=Path)
    play.add_argument('--rate', type=float, default=1.0, help='2 plays twice as fast (default 1)')
    play.add_argument('--loop', action='store_true', help='start again at the end')
    play.add_argument('--clock', action='store_true', help='publish /clock, for use_sim_time')
    play.add_argument(
        '--wait', type=float, default=5.0, help='seconds to wait for a subscriber (default 5)'
    )
    play.set_defaults(run=_play)
    return parser


def _make(options: argparse.Namespace) -> int:
    if options.rate <= 0:
        raise BagError(f'--rate must be above 0, got {options.rate}')
    frames = folder_frames(options.folder, options.rate)
    count = write_drive(options.bag, frames, options.storage, options.compressed)
    print(f'{count} frames written to {options.bag}')
    return 0


def _play(options: argparse.Namespace) -> int:
    import rclpy  # only playing needs ROS

    from nightseg_ros.evaluation.player import BagPlayer
    from nightseg_ros.evaluation.ros_environment import use_shared_memory

    use_shared_memory()
    rclpy.init()
    node = rclpy.create_node('night_seg_bag_player')
    try:
        player = BagPlayer(node, options.bag, options.rate, options.clock)
        if not player.wait_for_subscriber(options.wait):
            print(f'nobody subscribed within {options.wait:g} s: playing all the same')
        while rclpy.ok():
            print(f'{player.play()} messages published')
            if not options.loop:
                break
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
