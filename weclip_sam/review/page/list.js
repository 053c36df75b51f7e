// The list of all images: only the rows in sight exist, so that thousands open as quickly as ten.
const ROW = 72, BEYOND = 6;
const rows = new Map();

function drawRows() {
  const list = byId('list'), first = Math.max(0, Math.floor(list.scrollTop / ROW) - BEYOND);
  const last = Math.min(shown.list.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + BEYOND);
  for (const [place, row] of rows) {
    if (place < first || place >= last) { row.remove(); rows.delete(place); }
  }
  for (let place = first; place < last; place++) {
    if (!rows.has(place)) {
      const row = drawRow(shown.list[place], place);
      rows.set(place, row);
      byId('rows').append(row);
    }
    rows.get(place).setAttribute('aria-current', place === shown.at);
  }
}

function drawRow(image, place) {
  const thumb = make('div', { class: 'thumb' });
  for (const layer of ['photo', 'labels']) {
    const source = own(image.layers, layer);
    if (source) thumb.append(make('img', { src: source, alt: '', loading: 'lazy', decoding: 'async' }));
  }
  const problems = Object.keys(image.problems);
  const what = make('div', { class: 'what' }, make('b', { title: image.name }, image.name),
    make('span', problems.length ? {} : { class: 'faint' },
      problems.map(kind => data.kinds[kind]).join(' · ') || Object.keys(image.areas).join(', ') || 'nothing found'));
  const row = make('a', { class: 'row', href: anchor(image.name) }, thumb, what);
  const mark = markOf(image);
  if (mark) row.append(make('span', { class: `badge ${mark}` }, mark));
  row.style.top = `${ROW * place}px`;
  return row;
}

function redrawList() {
  for (const row of rows.values()) row.remove();
  rows.clear();
  byId('rows').style.height = `${ROW * shown.list.length}px`;
  byId('count').textContent = shown.list.length === images.length ? `${images.length} image${images.length === 1 ? '' : 's'}`
    : `${shown.list.length} of ${images.length} images`;
  drawRows();
}

function bringToSight(place) {
  const list = byId('list'), top = ROW * place;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  drawRows();
}

function drawProgress() {
  const counts = { ok: 0, wrong: 0, later: 0 };
  for (const image of images) { const mark = markOf(image); if (mark) counts[mark]++; }
  const done = counts.ok + counts.wrong + counts.later;
  const told = Object.entries(counts).filter(([, count]) => count).map(([mark, count]) => `${count} ${mark}`);
  byId('progress').textContent = [...told, `${images.length - done} to go`].join(' · ')
    + (remembered ? '' : ' (this browser keeps no marks: save them as CSV)');
}
