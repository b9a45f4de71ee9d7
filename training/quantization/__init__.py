"""FP16 and INT8 files of the released student: made, ranked layer by layer, and compared."""
