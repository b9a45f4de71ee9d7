"""Networks (torch): the offline half of what the vehicle runs as ONNX."""
