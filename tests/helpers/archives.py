"""Archives made for tests, and what lies in a folder."""

import hashlib
import io
import tarfile
import zipfile


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tarred(path, members, mode="w"):
    """A tar. A member whose content is a type of tarfile is empty, and points to /etc/hostname if it is a link."""
    with tarfile.open(path, mode) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if len(content) == 1:
                info.type, info.linkname, content = content, "/etc/hostname", b""
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


FILES = {"top/": b"", "top/a.txt": b"first", "top/deep/b.txt": b"second", "notes.txt": b"third"}


LISTED = ["notes.txt", "top", "top/a.txt", "top/deep", "top/deep/b.txt"]


HELD = {name: (len(held), hashlib.sha256(held).hexdigest()) for name, held in FILES.items() if held}
