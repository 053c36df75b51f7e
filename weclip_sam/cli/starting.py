"""How a command starts: arguments first, then what works on them, which reads torch and takes seconds."""
from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def starting() -> Iterator[None]:
    """The block in which a command looks for the files that it was given, and then imports what does the work.

    A file or a package that is not there is one line and exit code 2, Ctrl-C is exit code 130, as in
    :func:`weclip_sam.engine.friendly_errors`, which is not read yet. ``WECLIP_SAM_TRACEBACK=1`` shows the traceback.
    """
    try:
        yield
    except (ImportError, FileNotFoundError, ValueError) as error:
        if os.environ.get('WECLIP_SAM_TRACEBACK'):
            raise
        of = f'{sys.argv[0]}: ' if isinstance(error, ImportError) else ''
        print(f'error: {of}{error}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
