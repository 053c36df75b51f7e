"""When a process of the tests may fork: while it has one thread (nothing here imports torch)."""
import os


def require_one_thread() -> None:
    """A fork has the thread that forked alone, and would wait for ever for any other of its parent.

    Raises:
        AssertionError: this process has several (where the system tells).
    """
    threads = len(os.listdir('/proc/self/task')) if os.path.isdir('/proc/self/task') else 1
    assert threads == 1, f'this process has {threads} threads, of which a fork would have one'
