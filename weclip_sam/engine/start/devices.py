"""Which device a program works on."""
from __future__ import annotations

import torch


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device of that name, or a GPU if there is one, else the CPU.

    Raises:
        ValueError: a device that cannot be used here.
    """
    if device is None:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(f"device '{device}' cannot be used here: {str(error).splitlines()[0]}") from None
    return chosen
