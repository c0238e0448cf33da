"""What does the worker's side add to the command line?

Thin click commands over the detector library; each imports torch only inside its body.
"""
