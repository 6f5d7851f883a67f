import os

import pytest

from pelk_mm.utils.errors import OutputError
from pelk_mm.utils.files import claim_files, write_files


def test_files_are_claimed_and_written(tmp_path):
    paths = claim_files(tmp_path / 'new' / 'a.png', ('.csv',), overwrite=False)
    assert paths == [tmp_path / 'new' / 'a.png', tmp_path / 'new' / 'a.csv']
    assert not (tmp_path / 'new').exists()
    write_files(dict(zip(paths, (b'\x89', 'a,b\n'), strict=True)))
    assert paths[0].read_bytes() == b'\x89'
    assert paths[1].read_text() == 'a,b\n'
    assert sorted(os.listdir(tmp_path / 'new')) == ['a.csv', 'a.png']
    assert claim_files(paths[0], ('.csv',), overwrite=True) == paths


def test_what_is_there_stays(tmp_path):
    (tmp_path / 'a.csv').write_text('kept')
    with pytest.raises(OutputError, match='a.csv exists: pass --overwrite'):
        claim_files(tmp_path / 'a.png', ('.csv',), overwrite=False)
    with pytest.raises(OutputError, match='b.jpg must end in .png'):
        claim_files(tmp_path / 'b.jpg', (), overwrite=True)
    (tmp_path / 'c.png').mkdir()
    with pytest.raises(OutputError, match='c.png is a folder, not a file'):
        claim_files(tmp_path / 'c.png', (), overwrite=True)
    with pytest.raises(OutputError, match='d.png cannot be written: .*a.csv is not a folder'):
        claim_files(tmp_path / 'a.csv' / 'd.png', (), overwrite=True)
    with pytest.raises(OutputError, match='c.png cannot be written: '):
        write_files({tmp_path / 'c.png': b''})
    assert (tmp_path / 'a.csv').read_text() == 'kept'
