"""A trained model as a file that runs without this package: ONNX, and programs of ``torch.export``."""
from weclip_sam.export.deploy.card import network_card
from weclip_sam.export.deploy.compare import ENOUGH, agreement, drawn_pictures, same_checkpoint, time_ratio
from weclip_sam.export.deploy.deployed import Deployed
from weclip_sam.export.deploy.files import FORMS, check_place, onnx_bytes, program_bytes, require
from weclip_sam.export.deploy.network import InferenceNetwork, export_network

__all__ = ['ENOUGH', 'FORMS', 'Deployed', 'InferenceNetwork', 'agreement', 'check_place', 'drawn_pictures',
           'export_network', 'network_card', 'onnx_bytes', 'program_bytes', 'require', 'same_checkpoint', 'time_ratio']
