"""What a deployed model needs and nothing else: exports carry a copy of this package (as ``defect_model``).

It imports torch, timm, numpy, pillow and safetensors, and nothing of this project, so that a model runs where this
project is not installed.
"""
