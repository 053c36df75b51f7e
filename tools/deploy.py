#!/usr/bin/env python
"""Export a trained model to ONNX or torch.export: ``python tools/deploy.py CHECKPOINT --out model.onnx``.

It is ``weclip_sam/cli/deploy.py``.
"""
from weclip_sam.cli.deploy import main

if __name__ == '__main__':
    main()
