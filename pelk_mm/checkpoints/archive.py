"""The outside of a checkpoint file: which format it has, and whether its parts are where and what they claim to be.

Two parsers read such a file, PyTorch's and the one here. An archive that they could read differently is refused, so the
rules are those of the files that ``torch.save`` and ``zipfile`` write: records one after the other, stored as they
are, and a directory at the end that lists exactly them. ``torch.save`` writes a CRC-32 of every record, which PyTorch
never compares. It is compared here.
"""

import os
import struct
import tarfile
import zlib
from typing import BinaryIO, NamedTuple

ZIP_START = b'PK\x03\x04'
LEGACY_MAGIC = b'\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.'  # torch.serialization.MAGIC_NUMBER as every protocol pickles it
MOST_RECORDS = 100_000
_CHUNK = 1 << 20
_ALLOWED_FLAGS = 0x0808  # sizes follow the data, names are UTF-8
_SIZES_FOLLOW = 0x0008


class Record(NamedTuple):
    """A record of an archive: its name without the archive's, and where its bytes stand."""

    name: str
    start: int
    size: int
    crc: int


def size_of(stream: BinaryIO) -> int:
    """Return the size of a stream in bytes; its position becomes 0."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return size


def is_legacy(stream: BinaryIO) -> bool:
    """Tell whether a stream starts as PyTorch wrote files before 1.6: pickles one after the other, then storages."""
    stream.seek(0)
    start = stream.read(tarfile.BLOCKSIZE)
    if start[:1] != b'\x80' or LEGACY_MAGIC not in start[:32]:
        return False
    try:
        # PyTorch tries a third, still older format first. A file can be both, and that reader checks nothing.
        tarfile.TarInfo.frombuf(start, 'utf-8', 'surrogateescape')
    except tarfile.TarError:
        return True
    raise ValueError('it is a tar archive, which no PyTorch since 2016 writes')


def read_records(stream: BinaryIO) -> dict[str, int]:
    """Check an archive.

    Args:
        stream: Starts with ``ZIP_START``.

    Returns:
        The size in bytes of each record by name.

    Raises:
        ValueError: The archive is not one that ``torch.save`` writes, or a checksum does not match.
    """
    records = _directory(stream)
    names = {record.name for record in records}
    if 'constants.pkl' in names:
        raise ValueError('it is a TorchScript archive, which is a program')
    if 'data.pkl' not in names:
        raise ValueError('it has no record data.pkl')
    # torch.serialization.set_crc32_options(False) writes zeros instead of all checksums.
    if any(record.crc for record in records):
        for record in records:
            if _checksum(stream, record) != record.crc:
                raise ValueError(f'the checksum of record {record.name} does not match')
    return {record.name: record.size for record in records}


def _directory(stream: BinaryIO) -> list[Record]:
    """Read the directory, and demand that its records fill the file from the first byte to the directory itself."""
    count, start, size = _end_record(stream)
    if count > MOST_RECORDS:
        raise ValueError(f'it has {count} records, more than {MOST_RECORDS}')
    directory = _read(stream, start, size)
    records: list[Record] = []
    seen: set[bytes] = set()
    prefix, at, position = b'', 0, 0
    gaps: tuple[int, ...] = (0,)
    for _ in range(count):
        signature, flags, method, crc, packed, unpacked = struct.unpack_from('<4s4xHH4xLLL', directory, at)
        name_size, extra_size, comment_size, disk, attributes, offset = struct.unpack_from(
            '<HHHH2xLL', directory, at + 28
        )
        at += 46
        name, extra = directory[at : at + name_size], directory[at + name_size : at + name_size + extra_size]
        at += name_size + extra_size
        unpacked, packed, offset = _wide(extra, unpacked, packed, offset)
        # A record with DOS attributes may be a folder to PyTorch, which then leaves its memory as it was.
        other = comment_size or disk or method or attributes & 0xFFFF or flags & ~_ALLOWED_FLAGS or packed != unpacked
        if signature != b'PK\x01\x02' or other:
            raise ValueError('its directory is not that of an uncompressed archive')
        prefix = prefix or name[: name.find(b'/') + 1]
        text = name[len(prefix) :].decode()
        # PyTorch looks names up without regard to case.
        known = prefix and name.startswith(prefix) and text.isprintable() and text[-1:] not in ('', '/')
        if not known or name.lower() in seen:
            raise ValueError('the names of its records are not those that torch.save writes')
        seen.add(name.lower())
        if offset - position not in gaps:
            raise ValueError('its records do not follow each other')
        mark, local_name_size, local_extra_size = struct.unpack('<4s22xHH', _read(stream, offset, 30))
        if mark != ZIP_START or _read(stream, offset + 30, local_name_size) != name:
            raise ValueError('a record is not where the directory says')
        data = offset + 30 + local_name_size + local_extra_size
        records.append(Record(text, data, unpacked, crc))
        position, gaps = data + unpacked, (16, 24) if flags & _SIZES_FOLLOW else (0,)
    if at != size or start - position not in gaps:
        raise ValueError('its records do not fill it')
    return records


def _end_record(stream: BinaryIO) -> tuple[int, int, int]:
    """Read the number of records and where the directory starts and how long it is."""
    end = size_of(stream) - 22
    signature, disks, here, count, size, start, comment = struct.unpack('<4sLHHLLH', _read(stream, end, 22))
    if signature != b'PK\x05\x06' or disks or here != count or comment:
        raise ValueError('its directory is missing')
    if end >= 76 and _read(stream, end - 20, 4) == b'PK\x06\x07':
        wide = end - 76
        locator = struct.unpack('<4sLQL', _read(stream, end - 20, 20))
        signature, length, disks, here, count, size, start = struct.unpack('<4sQ4xQQQQQ', _read(stream, wide, 56))
        if locator != (b'PK\x06\x07', 0, wide, 1) or (signature, length, disks) != (b'PK\x06\x06', 44, 0):
            raise ValueError('its directory is missing')
        end = wide
    if here != count or start + size != end:
        raise ValueError('its directory is not at its end')
    return count, start, size


def _wide(extra: bytes, *values: int) -> list[int]:
    """Replace the values that do not fit into 32 bits by those of the extra field for them."""
    full = 0xFFFFFFFF
    if full not in values:
        return list(values)
    while len(extra) >= 4:
        kind, size = struct.unpack_from('<HH', extra)
        if kind == 1:
            wide = iter(struct.unpack_from(f'<{values.count(full)}Q', extra[4 : 4 + size]))
            return [next(wide) if value == full else value for value in values]
        extra = extra[4 + size :]
    raise ValueError('a size is missing in its directory')


def _read(stream: BinaryIO, start: int, size: int) -> bytes:
    if start < 0 or start + size > size_of(stream):
        raise ValueError('a part of it is missing')
    stream.seek(start)
    return stream.read(size)


def _checksum(stream: BinaryIO, record: Record) -> int:
    stream.seek(record.start)
    crc, left = 0, record.size
    while left:
        chunk = stream.read(min(left, _CHUNK))
        if not chunk:
            raise ValueError(f'record {record.name} is cut off')
        crc, left = zlib.crc32(chunk, crc), left - len(chunk)
    return crc
