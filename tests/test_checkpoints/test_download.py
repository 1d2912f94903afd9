"""Downloads: whole or not at all, with the sha256 that was asked for, and only once."""

import hashlib
import http.server
import threading

import pytest
import torch
from miniatures import ARCH, write_vit

from lspt_mm.checkpoints import load_backbone, read_checkpoint
from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content``; the first ``cuts`` answers break off in the middle."""

    def __init__(self, content):
        super().__init__(('127.0.0.1', 0), Handler)
        self.content, self.cuts, self.asked, self.status = content, 0, 0, 200

    @property
    def url(self):
        return f'http://127.0.0.1:{self.server_address[1]}/files/vit.pth'


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked += 1
        body = server.content
        self.send_response(server.status)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if server.cuts:
            server.cuts -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    server = Server(write_vit(tmp_path / 'vit.pth').read_bytes())
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def cached(tmp_path):
    folder = tmp_path / 'cache' / 'hub' / 'checkpoints'
    return [p for p in folder.glob('*') if p.suffix != '.lock'] if folder.is_dir() else []


def digest(server):
    return hashlib.sha256(server.content).hexdigest()


@pytest.mark.parametrize('with_hash', [False, True])
def test_fetched_once(with_hash, server, tmp_path):
    source = server.url + (f'#sha256={digest(server)}' if with_hash else '')
    for _ in range(2):
        model = PromptedViT(arch=ARCH, img_size=32, patch_size=8)
        load_backbone(model, source)
        assert model.weights.source == source
    assert server.asked == 1
    (path,) = cached(tmp_path)
    assert path.read_bytes() == server.content


@pytest.mark.parametrize('with_hash', [False, True])
def test_a_cut_transfer_leaves_nothing_and_starts_anew(with_hash, server, tmp_path):
    source = server.url + (f'#sha256={digest(server)}' if with_hash else '')
    server.cuts = 1
    with pytest.raises(InputError, match='cannot be downloaded'):
        read_checkpoint(source)
    assert cached(tmp_path) == []
    assert 'model' in read_checkpoint(source)
    assert cached(tmp_path)[0].read_bytes() == server.content


def test_another_sha256_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(InputError, match='0000'):
        read_checkpoint(f'{server.url}#sha256={"0" * 64}')
    assert cached(tmp_path) == []


def test_a_file_in_the_cache_that_was_changed_is_fetched_again(server, tmp_path):
    source = f'{server.url}#sha256={digest(server)}'
    read_checkpoint(source)
    cached(tmp_path)[0].write_bytes(b'torn')
    assert 'model' in read_checkpoint(source)
    assert server.asked == 2


def test_not_found(server, tmp_path):
    server.status = 404
    with pytest.raises(InputError, match='404'):
        read_checkpoint(server.url)
    assert cached(tmp_path) == []


def test_no_server(server, tmp_path):
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match='--pretrained FILE'):
        read_checkpoint(url)
    assert cached(tmp_path) == []


def test_several_at_once_fetch_once(server, tmp_path):
    threads = [threading.Thread(target=read_checkpoint, args=(server.url,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked == 1


def test_sha256_of_a_local_file(tmp_path):
    path = write_vit(tmp_path / 'vit.pth')
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert 'model' in read_checkpoint(f'{path}#sha256={sha256}')
    with pytest.raises(InputError, match=sha256):
        read_checkpoint(f'{path}#sha256={"1" * 64}')
    with pytest.raises(InputError, match='64'):
        read_checkpoint(f'{path}#sha256=12ab')


def test_a_hash_sign_in_a_name_is_a_name(tmp_path):
    torch.save({'a': torch.zeros(1)}, tmp_path / 'run#1.pth')
    assert 'a' in read_checkpoint(str(tmp_path / 'run#1.pth'))


@pytest.mark.parametrize(
    'fragment',
    ['#sha256=' + 'g' * 64, '#sha256=' + '0' * 63 + 'O', '#SHA256=' + '0' * 64,
     '#sha256=' + '0' * 64 + ' ', '#sha256= ' + '0' * 64, '#', '#md5=1'],
)
def test_a_mistyped_check_is_not_dropped(fragment, server, tmp_path):
    with pytest.raises(InputError, match='64'):
        read_checkpoint(server.url + fragment)
    assert server.asked == 0
