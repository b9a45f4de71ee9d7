"""How good and how fast: recorded drives, offline or replayed through the node, and their reports.

A frame on its way, module by module:

- read: `bag_reader`, `truth` (`label_formats`), joined in `frames`
- segmented: `offline`, or by the node: `player`, `replay`, `join`
- measured: `measure`, `counts`, `flicker` (and `core.bootstrap`)
- added up: `drive`, `rows`, `highlights`, `video`; also written: `mask_bag`, `rerun_log`
- reported: `together` (several drives), `summary`, `report_warnings`, `report`, `drive_files`

What is to be done: `request` (a drive), `bag_job` and `replay_job` (a bag), `fleet` (many), run by
`evaluate`. However it ends: `interruption` (Ctrl-C), `staging` (nothing half-written), `orphans`.
The commands: `evaluate_command`, `bag_command`, `demo`. Bags are made by `bags`.
"""
