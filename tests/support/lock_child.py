"""A process that takes a folder's lock: ``python lock_child.py hold|fork|grab FOLDER``.

It imports no torch. When it forks it has one more thread, the lock's heartbeat, which sleeps and holds nothing that the
fork could wait for; the fork has ended before it goes on.
"""
import multiprocessing
import sys
import time
from pathlib import Path

from weclip_sam.io.locks import FolderLock, FolderTaken, living_owner

what, folder = sys.argv[1], Path(sys.argv[2])
if what == 'hold':
    FolderLock(folder, 'training').acquire()
    print('holds it', flush=True)
    time.sleep(60)
elif what == 'fork':
    with FolderLock(folder) as lock:
        worker = multiprocessing.get_context('fork').Process(target=lock.release)
        assert 'torch' not in sys.modules
        worker.start()
        worker.join(60)
        assert worker.exitcode == 0
        print('still held' if living_owner(folder) is not None else 'given back')
else:
    print('ready', flush=True)
    sys.stdin.readline()
    try:
        FolderLock(folder).acquire()
        print('taken', flush=True)
        time.sleep(1)
    except FolderTaken:
        print('refused', flush=True)
