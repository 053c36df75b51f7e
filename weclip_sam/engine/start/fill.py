"""A config as a run uses it: every part has what it takes from elsewhere."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.config import Config

from weclip_sam.engine.start.sam_at_test import fill_sam_at_test
from weclip_sam.engine.start.shared_settings import fill_shared_settings
from weclip_sam.engine.start.vocabulary import fill_vocabulary


def fill_config(config: Config, known: Mapping[str, Sequence[str]] | None = None) -> None:
    """Fill in what the config says once for several parts, and the names of the data.

    Args:
        config: changed in place. Filling it again changes nothing.
        known: the names, where a checkpoint brings them, see :func:`fill_vocabulary`.
    """
    fill_shared_settings(config)
    fill_sam_at_test(config)
    fill_vocabulary(config, known)


def fill_what_can_be(config: Config) -> str:
    """:func:`fill_config` where the data may be missing.

    Returns:
        Why the names of the data are not filled in, or nothing.
    """
    fill_shared_settings(config)
    fill_sam_at_test(config)
    try:
        fill_vocabulary(config)
    except (ValueError, OSError) as error:
        return str(error)
    return ''
