"""The memory of this process: for tests and trials, gone when it ends."""

import threading

from prior_store.backends.objects import ObjectFiles


class MemoryFiles(ObjectFiles):
    """Objects in the memory of this process."""

    _one_winner = threading.Lock()

    def _pipe_new(self, path: str, data: bytes) -> bool:
        # fsspec looks and writes in two steps there, and several threads can be between them.
        with self._one_winner:
            if self.fs.exists(self._full(path)):
                return False
            self.fs.pipe_file(self._full(path), data)
            return True
