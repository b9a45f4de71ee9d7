"""A lifecycle transition that is not possible is an answer, not the end of the node."""

from __future__ import annotations

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode

try:
    from rclpy._rclpy_pybind11 import RCLError
except ImportError:  # another distribution keeps it elsewhere
    RCLError = RuntimeError


def refuse_impossible_transitions(node: LifecycleNode) -> None:
    """Answer ``success: false`` where rclpy would let an exception end the node.

    ``ros2 lifecycle set NODE activate`` on an active node ends every rclpy lifecycle node: its
    handler of ``~/change_state`` lets RCLError through to the executor.
    """
    service = node._service_change_state
    change_state = service.callback

    def answer(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        try:
            return change_state(request, response)
        except RCLError as error:
            transition = request.transition.label or request.transition.id
            node.get_logger().warning(f'transition {transition} is not possible now: {error}')
            response.success = False
            return response

    service.callback = answer
