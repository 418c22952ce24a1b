"""Files and folders are complete or absent, whatever stops their writer."""

import os
import signal
import subprocess
import sys

import pytest

from mmkdna.errors import BadInput
from mmkdna.files import made_beside, write_text, written_beside

WRITE = """
import sys
from pathlib import Path
from mmkdna.files import made_beside, written_beside

make = made_beside if sys.argv[2] == 'folder' else written_beside
with make(sys.argv[1]) as beside:
    place = Path(beside, 'half') if sys.argv[2] == 'folder' else Path(beside)
    place.write_text('half')
    print('writes', flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """A process that is in the middle of writing."""
    started = []

    def writer(kind):
        command = [sys.executable, '-c', WRITE, tmp_path / 'out', kind]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        started.append(process)
        assert process.stdout.readline() == 'writes\n'
        return process

    yield writer
    for process in started:
        process.kill()
        process.communicate()


def make(kind, path):
    if kind == 'file':
        write_text('whole', path)
        return
    with made_beside(path) as beside:
        write_text('whole', f'{beside}/file')


@pytest.mark.parametrize('kind', ['file', 'folder'])
@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_writer_left_goes_with_the_next(
    writer, tmp_path, kind, how
):
    process = writer(kind)
    process.send_signal(how)
    process.wait()
    (left,) = tmp_path.iterdir()
    assert left.suffix == '.part'
    (tmp_path / 'outer.1234.part').touch()
    make(kind, tmp_path / 'out')
    # The part of another file is not touched.
    assert sorted(os.listdir(tmp_path)) == ['out', 'outer.1234.part']


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_the_part_of_a_living_writer_is_left_alone(writer, tmp_path, kind):
    process = writer(kind)
    write_text('mine', tmp_path / 'mine')
    with pytest.raises(ZeroDivisionError):
        fail(kind, tmp_path / 'out')
    assert len(os.listdir(tmp_path)) == 2
    process.communicate('go on')
    assert process.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ['mine', 'out']


def fail(kind, path):
    begin = written_beside if kind == 'file' else made_beside
    with begin(path) as beside:
        assert os.path.exists(beside)
        raise ZeroDivisionError


def test_names_are_taken_literally(tmp_path):
    (tmp_path / 'a1.b.part').touch()
    write_text('x', tmp_path / 'a[1]')
    assert sorted(os.listdir(tmp_path)) == ['a1.b.part', 'a[1]']


def test_a_folder_that_another_made_meanwhile_stays(tmp_path):
    with pytest.raises(OSError, match='not empty'):
        race(tmp_path / 'out')
    assert os.listdir(tmp_path) == ['out']
    assert os.listdir(tmp_path / 'out') == ['theirs']


def race(path):
    with made_beside(path) as beside:
        write_text('', f'{beside}/mine')
        write_text('', path / 'theirs')


@pytest.mark.parametrize('begin', [written_beside, made_beside])
def test_a_place_that_takes_nothing_is_said(tmp_path, begin):
    (tmp_path / 'file').touch()
    for place in ('/proc/mmkdna/out', f'{tmp_path}/file/out'):
        with (
            pytest.raises(BadInput, match='out cannot be written: '),
            begin(place),
        ):
            raise AssertionError
    assert os.listdir(tmp_path) == ['file']


def test_written_files_have_the_users_permissions(tmp_path):
    write_text('x', tmp_path / 'ours')
    (tmp_path / 'theirs').touch()
    ours, theirs = ((tmp_path / n).stat().st_mode for n in ('ours', 'theirs'))
    assert ours == theirs
