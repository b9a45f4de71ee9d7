"""How an evaluation is shown: the page of a run, its sheets of frames, and the comparison page."""
