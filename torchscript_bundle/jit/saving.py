"""Writing TorchScript where the disk may be full.

torch ends the process if its writer meets an error: the destructor of PyTorchStreamWriter writes
the end of the file, and what that raises nobody can catch (caffe2/serialize/inline_container.cc).
So torch writes into memory, and the file is a copy. The memory is free again before anything loads
the file, which takes as much. (A pipe takes no memory, but torch asks its file for a position.)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_in_memory(path: Path) -> Iterator[str]:
    """Give a path that torch can write to as if it were `path`, with room as long as memory lasts.

    Args:
        path: appears whole at the end of the block, or not at all.

    Raises:
        OSError: the file cannot be written, such as on a full disk.
    """
    fresh = path.with_name(f"{path.name}.new")
    memory = os.memfd_create(path.name)
    try:
        path.unlink(missing_ok=True)
        # torch names the folder in the file after the path that it is given.
        path.symlink_to(f"/proc/self/fd/{memory}")
        yield str(path)
        shutil.copyfile(path, fresh)
        fresh.replace(path)
    except BaseException:
        for each in (path, fresh):
            each.unlink(missing_ok=True)
        raise
    finally:
        os.close(memory)
