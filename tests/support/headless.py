"""A headless Chromium that tests talk to through two pipes: no port, no driver, nothing left behind.

``pytest.importorskip`` has no word for programs: tests that need a browser are marked with ``needs_chromium``.
"""
import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import child_processes
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
FLAGS = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
         '--disable-background-networking', '--disable-component-update', '--disable-extensions', '--hide-scrollbars',
         '--disable-dev-shm-usage', '--no-zygote', '--remote-debugging-pipe')
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason='no chromium here')


class Browser:
    """One tab. Use it in a ``with`` block.

    Args:
        profile: an empty folder of its own.
        size: of the window, width and height in pixels.
    """

    def __init__(self, profile: Path, size: tuple[int, int] = (1280, 860)) -> None:
        there, here = os.pipe(), os.pipe()  # what the browser reads, and what it writes

        def arrange() -> None:  # the browser wants them as 3 and 4
            reads, writes = os.dup(there[0]), os.dup(here[1])
            os.dup2(reads, 3)
            os.dup2(writes, 4)

        self.process = subprocess.Popen(
            [str(CHROMIUM), *FLAGS, f'--user-data-dir={profile}', f'--window-size={size[0]},{size[1]}', 'about:blank'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
            preexec_fn=arrange, start_new_session=True)
        os.close(there[0])
        os.close(here[1])
        self._to, self._from = there[1], here[0]
        self._waiting, self._number, self.errors = b'', 0, list[str]()
        try:
            targets = self._ask('Target.getTargets')['targetInfos']
            page = next(each['targetId'] for each in targets if each['type'] == 'page')
            self._session = self._ask('Target.attachToTarget', targetId=page, flatten=True)['sessionId']
            for part in ('Page', 'Runtime', 'Log'):
                self.ask(f'{part}.enable')
            self.resize(*size)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> 'Browser':
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._ask('Browser.close')
            self.process.wait(10)
        except (OSError, AssertionError, subprocess.TimeoutExpired):
            pass
        self._end()

    def _end(self) -> None:
        child_processes.kill(self.process)
        for pipe in (self._to, self._from):
            os.close(pipe)

    def ask(self, method: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol to the tab; its result."""
        return self._ask(method, self._session, **parameters)

    def _ask(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        self._number += 1
        message = dict(id=self._number, method=method, params=parameters, **({'sessionId': session} if session else {}))
        data = json.dumps(message).encode() + b'\0'
        while data:
            data = data[os.write(self._to, data):]
        while True:
            answer = self._next()
            if answer.get('id') == self._number:
                assert 'error' not in answer, answer['error']
                return answer['result']

    def _next(self, timeout: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while b'\0' not in self._waiting:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._from], [], [], left)[0], 'the browser does not answer'
            more = os.read(self._from, 1 << 20)
            assert more, 'the browser is gone'
            self._waiting += more
        message, self._waiting = self._waiting.split(b'\0', 1)
        found = json.loads(message)
        if found.get('method') == 'Runtime.exceptionThrown':
            details = found['params']['exceptionDetails']
            self.errors.append(str(details.get('exception', {}).get('description', details['text'])))
        if found.get('method') == 'Log.entryAdded' and found['params']['entry']['level'] == 'error':
            self.errors.append(found['params']['entry']['text'])
        return found

    def open(self, address: str) -> None:
        """Go to a page and wait until it has loaded."""
        self.ask('Page.navigate', url=address)
        self.wait('document.readyState === "complete"')

    def run(self, script: str) -> Any:
        """The value of an expression in the page (a promise's, too)."""
        result = self.ask('Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in result, result['exceptionDetails']
        return result['result'].get('value')

    def wait(self, condition: str, timeout: float = 30) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + timeout
        while not self.run(f'Boolean({condition})'):
            assert time.monotonic() < deadline, f'not within {timeout} s: {condition}'
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press and release a key: a letter, or a name such as ``ArrowRight``."""
        text = dict(text=key) if len(key) == 1 else {}
        code = {'ArrowLeft': 37, 'ArrowUp': 38, 'ArrowRight': 39, 'ArrowDown': 40, 'Escape': 27, 'Enter': 13,
                'Home': 36, 'End': 35, 'PageUp': 33, 'PageDown': 34}.get(key, 0)
        for kind in ('keyDown', 'keyUp'):
            self.ask('Input.dispatchKeyEvent', type=kind, key=key, windowsVirtualKeyCode=code,
                     **(text if kind == 'keyDown' else {}))

    def resize(self, width: int, height: int) -> None:
        """The size of the page in pixels."""
        self.ask('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1,
                 mobile=width < 600)

    def screenshot(self, path: Path) -> None:
        """What is seen, as a PNG."""
        path.write_bytes(base64.b64decode(self.ask('Page.captureScreenshot', format='png')['data']))
