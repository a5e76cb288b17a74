"""Named files as one zip archive: stored, sorted, dated 1980, so that the same files are always the same bytes."""

import io
import zipfile
from collections.abc import Mapping

from lepton.errors import Invalid

MAX_BYTES = 512 * 2**20
MAX_FILES = 200
_DATE = (1980, 1, 1, 0, 0, 0)


def pack(files: Mapping[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, files[name])
    return sink.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """Files by name, compressed or not. Raises Invalid for what is no archive, or holds more than it may."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MAX_FILES or sum(one.file_size for one in members) > MAX_BYTES:
                raise Invalid(f"the archive holds more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB", field="file")
            return {one.filename: archive.read(one) for one in members}
    # zipfile raises NotImplementedError and RuntimeError for methods and flags that it does not know.
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise Invalid(f"the file is no readable zip archive: {error}", field="file") from error


def unpack_exactly(data: bytes) -> dict[str, bytes]:
    """Files of what `pack` wrote. Raises Invalid where a single byte is another, also one between the files."""
    files = unpack(data)
    if pack(files) != data:
        raise Invalid("the archive is not as it was packed: bytes beside its files were changed", field="file",
                      remedy="export the version again, and keep the file as it is")
    return files
