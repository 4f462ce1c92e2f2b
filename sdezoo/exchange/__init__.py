"""A trained model elsewhere: as graphs of ONNX, which need no torch, and as a folder or repository by the conventions of the Hub."""
