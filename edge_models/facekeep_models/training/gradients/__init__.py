"""Reverse-mode differentiation of ONNX graphs into ONNX graphs, so that the runtime that embeds also trains.

graph: an ONNX graph with the shape of every value
rules: one rule for each operator: the gradient of its output to the gradients of its inputs
differentiation: the walk from the outputs back to what is trained
margin_loss: the loss and its gradient, as ONNX operators
training_graph: parameters, crops, centres -> loss, gradient
torch_graph: the same function in PyTorch, for tests and for research; no part of what a device runs
"""
