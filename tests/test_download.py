"""Files from the web are whole, whatever servers and proxies do."""

import pytest
from requests.exceptions import InvalidSchema
from zoo_server import BODY, CUT, FILE, SHA, SIZE, get

from mmkdna.errors import BadInput
from mmkdna.zoo import download
from mmkdna.zoo.store import obtain


@pytest.fixture
def cache(cache, monkeypatch):
    """An empty cache, no mirrors, no patience."""
    monkeypatch.setattr(download, 'TIMEOUT', (2, 0.5))
    monkeypatch.setattr(download, 'BACK_OFF', 0)
    return cache


def nothing_but_locks(folder):
    return all(path.suffix == '.lock' for path in folder.rglob('*'))


def spans(*starts):
    return [f'bytes={start}-' if start else None for start in starts]


@pytest.mark.parametrize(
    ('way', 'times', 'resumed'),
    [
        ('ok', 1, False),
        ('busy', 3, False),
        ('moved', 1, False),
        ('cutonce', 2, True),
        ('stalled', 2, True),
    ],
)
@pytest.mark.parametrize('size', [SIZE, 0])
def test_a_file_arrives_whole(server, cache, way, times, resumed, size):
    path = get(server, way, size=size)
    assert path == cache / FILE
    assert path.read_bytes() == BODY
    # The second time it is there.
    assert get(server, way) == path
    asked = server.asked(way)
    assert len(asked) == times
    assert any(asked) == resumed
    assert sorted(p.name for p in cache.iterdir()) == [FILE, f'{FILE}.lock']


@pytest.mark.parametrize(
    ('way', 'size'), [('cut', SIZE), ('cut', 0), ('short', SIZE)]
)
def test_every_body_that_breaks_off_is_gone_on_with(server, cache, way, size):
    # More often than ATTEMPTS: each brings something new.
    assert SIZE > CUT * download.ATTEMPTS
    assert get(server, way, size=size).read_bytes() == BODY
    assert server.asked(way) == spans(*range(0, SIZE, CUT))


def test_a_body_of_unknown_length_is_hashed(server, cache):
    with pytest.raises(BadInput, match='/short/.*its SHA-256 is'):
        get(server, 'short', size=0)


@pytest.mark.parametrize(
    ('way', 'why'),
    [
        ('cutnoranges', 'its body broke off: '),
        ('cut416', 'HTTP 416, not the rest of the file'),
        ('stuck', 'its body broke off: '),
    ],
)
@pytest.mark.parametrize('size', [SIZE, 0])
def test_a_server_without_progress_is_given_up(server, cache, way, why, size):
    with pytest.raises(BadInput, match=f'/{way}/{FILE}: {why}'):
        get(server, way, size=size)
    # The first one brought something.
    assert len(server.asked(way)) == 1 + download.ATTEMPTS
    assert not (cache / FILE).exists()


def test_another_location_goes_on_with_the_part(server, cache):
    assert get(server, 'stuck', 'ok').read_bytes() == BODY
    assert server.asked('ok') == spans(CUT)


@pytest.mark.parametrize('way', ['ok', 'noranges', 'norange416', 'otherrange'])
@pytest.mark.parametrize('begun', [BODY[:1000], b'of another file', BODY * 2])
def test_a_part_is_gone_on_with_or_fetched_anew(server, cache, way, begun):
    cache.mkdir()
    (cache / f'{FILE}.part').write_bytes(begun)
    assert get(server, way).read_bytes() == BODY
    first = server.asked(way)[0]
    expected = None if begun == BODY * 2 else f'bytes={len(begun)}-'
    # What is longer than the file cannot be gone on with.
    assert first == expected


@pytest.mark.parametrize(
    ('way', 'why'),
    [
        ('missing', 'HTTP 404 Not Found'),
        ('wrong', 'its SHA-256 is '),
        ('long', f'it sends more than the {SIZE} bytes of the index'),
    ],
)
def test_the_next_location_is_tried(server, cache, way, why):
    with pytest.raises(BadInput) as raised:
        get(server, way)
    message = str(raised.value)
    assert f'{server.url}/{way}/{FILE}: {why}' in message
    assert f'SHA-256 {SHA}) into {cache} by hand' in message
    assert not (cache / FILE).exists()
    assert get(server, way, 'ok').read_bytes() == BODY


def test_no_server_is_said(cache):
    # Port 9 of loopback: nobody listens.
    with pytest.raises(BadInput, match='127.0.0.1:9/x: .*refused'):
        obtain(FILE, SHA, 0, ('http://127.0.0.1:9/x',))
    assert nothing_but_locks(cache)


@pytest.mark.parametrize('scheme', ['file', 'ftp', 'data'])
def test_no_redirect_to_another_scheme_is_followed(
    server, cache, tmp_path, scheme
):
    (tmp_path / FILE).write_bytes(BODY)
    server.away = f'{scheme}://{tmp_path}/{FILE}'
    with pytest.raises(BadInput, match='No connection adapters were found'):
        get(server, 'away')
    assert nothing_but_locks(cache)


def test_no_redirect_leaves_https():
    session = download._session('https://x/y')
    assert session.get_adapter('https://elsewhere/y')
    for url in ('http://x/y', 'file:///x'):
        with pytest.raises(InvalidSchema):
            session.get_adapter(url)


def test_a_file_of_unknown_size_is_bounded(server, cache, monkeypatch):
    monkeypatch.setattr(download, 'LARGEST', SIZE - 1)
    with pytest.raises(BadInput, match=f'more than the {SIZE - 1} bytes that'):
        get(server, 'ok', size=0)
    assert nothing_but_locks(cache)
    monkeypatch.setattr(download, 'LARGEST', SIZE)
    assert get(server, 'ok', size=0).read_bytes() == BODY


def test_what_a_server_says_of_the_length_may_be_nonsense(server, cache):
    assert get(server, 'odd', size=0).read_bytes() == BODY


def test_a_part_that_is_a_link_is_not_written_through(server, cache, tmp_path):
    cache.mkdir()
    (tmp_path / 'precious').write_text('as it was')
    (cache / f'{FILE}.part').symlink_to(tmp_path / 'precious')
    assert get(server, 'ok').read_bytes() == BODY
    assert (tmp_path / 'precious').read_text() == 'as it was'
    assert not (cache / FILE).is_symlink()
