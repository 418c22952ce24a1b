"""Pages of the site that are files of the repository; mkdocs runs this.

The home page is README.md, and every other file that a page links to (a
config, a log, the licence) is on the site too. So a link that works in the
repository works on the site, and no text stands in two places.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PAGES = {
    'README.md': 'index.md',
    'CONTRIBUTING.md': 'contributing.md',
    'CHANGELOG.md': 'changelog.md',
}
"""Files of the repository, and what page each is."""
LINK = re.compile(r'\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)')


def on_files(files, config):
    """Add the pages, and the files that links lead to."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text()
        files.append(File.generated(config, page, content=text))
    texts = {f.src_uri: f.content_string for f in files.documentation_pages()}
    linked = {
        target
        for page, text in texts.items()
        for target, _ in _links(text, _source(page))
    }
    for path in sorted(linked):
        if not path.startswith('docs/') and path not in PAGES:
            file = ROOT / path
            if not file.is_file():
                continue  # mkdocs warns of the link
            text = file.read_text()
            if not path.endswith('.json'):
                text = _shown(path, text)
            uri = _place(path)
            files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Lead links of the repository to their pages."""
    if page.file.src_uri.startswith('files/'):
        return markdown
    here, source = page.file.src_uri, _source(page.file.src_uri)

    def on_the_site(match):
        (path, anchor), *_ = _links(match[0], source)
        to = posixpath.relpath(_place(path), posixpath.dirname(here) or '.')
        return f']({to}{anchor})'

    return LINK.sub(on_the_site, markdown)


def _source(page):
    """The file of the repository that a page is."""
    return {v: k for k, v in PAGES.items()}.get(page, f'docs/{page}')


def _links(text, source):
    """Files of the repository that a text links to, with the anchors."""
    folder = posixpath.dirname(source)
    for match in LINK.finditer(text):
        path = posixpath.normpath(posixpath.join(folder, match[1]))
        yield path, match[2] or ''


def _place(path):
    """Where a file of the repository is on the site."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith('docs/'):
        return path.removeprefix('docs/')
    return f'files/{path}' + ('' if path.endswith('.json') else '.md')


def _shown(path, text):
    """A page that shows a file."""
    language = {'.py': 'python', '.yml': 'yaml'}.get(Path(path).suffix, 'text')
    return (
        f'---\ntitle: {Path(path).name}\nsearch:\n  exclude: true\n---\n\n'
        f'# `{path}`\n\n````{language}\n{text.rstrip()}\n````\n'
    )
