// What keys, buttons and links do.
function select(place, address = true) {
  shown.at = shown.list.length ? Math.max(0, Math.min(place, shown.list.length - 1)) : -1;
  draw();
  if (shown.at >= 0) {
    shown.last = shown.list[shown.at];
    bringToSight(shown.at);
    if (address) history.replaceState(null, '', anchor(shown.list[shown.at].name));
    for (const near of [shown.at + 1, shown.at - 1]) {  // so that paging does not wait for pictures
      const next = shown.list[near];
      for (const layer of ['photo', 'labels']) if (next && own(next.layers, layer)) new Image().src = next.layers[layer];
    }
  }
}

function refilter(keep = shown.list[shown.at] || shown.last) {
  filter();
  redrawList();
  select(Math.max(0, shown.list.indexOf(keep)));
}

function applyMark(mark) {
  const image = shown.list[shown.at];
  if (!image) return;
  const next = shown.list[shown.at + 1] || image;
  const button = byId('marks').contains(document.activeElement) && document.activeElement.value;
  setMark(image, mark);
  drawProgress();
  refilter(markOf(image) ? next : image);
  if (button) byId('marks').querySelector(`[value=${button}]`)?.focus();
}

function follow() {
  let name = location.hash.slice(1);
  try { name = decodeURIComponent(name); } catch { /* as it stands */ }
  const image = images.find(each => each.name === name || anchor(each.name) === '#' + location.hash.slice(1));
  if (!image) return false;
  if (!shown.list.includes(image)) {
    byId('search').value = byId('class').value = byId('mark').value = '';
    pressKinds(null);
    filter();
    redrawList();
  }
  select(shown.list.indexOf(image), false);
  return true;
}

function pressKinds(kind) {
  if (kind === null) shown.kinds.clear();
  else if (!shown.kinds.delete(kind)) shown.kinds.add(kind);
  for (const button of byId('kinds').children) button.setAttribute('aria-pressed', shown.kinds.has(button.value));
}

const KEYS = {
  j: () => select(shown.at + 1), ArrowDown: () => select(shown.at + 1), ArrowRight: () => select(shown.at + 1),
  k: () => select(shown.at - 1), ArrowUp: () => select(shown.at - 1), ArrowLeft: () => select(shown.at - 1),
  PageDown: () => select(shown.at + 10), PageUp: () => select(shown.at - 10),
  Home: () => select(0), End: () => select(shown.list.length - 1),
  o: () => applyMark('ok'), w: () => applyMark('wrong'), l: () => applyMark('later'),
  h: () => flip('labels'), c: () => flip('cam'), s: () => flip('sam'), d: () => flip('decoder'), u: () => flip('confidence'),
  '/': () => byId('search').select(), '?': () => byId('help').showModal(),
};

function flip(layer) { visible[layer] = !visible[layer]; showLayers(); }

// Who points goes on with keys that page; who uses keys stays where they are.
let pointing = false;
document.addEventListener('pointerdown', () => { pointing = true; }, true);
document.addEventListener('keydown', () => { pointing = false; }, true);
function leave(element) { if (pointing) element.blur(); }

document.addEventListener('keydown', event => {
  const at = document.activeElement;
  const typing = at?.matches('input[type=search], select') || byId('help').open
    || at?.matches('input[type=range]') && /^(Arrow|Page|Home|End)/.test(event.key);
  if (event.key === 'Escape' && at?.matches('input, select')) {
    event.preventDefault();  // a browser would empty the search without a word to the list
    at.blur();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !own(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});

function option(value, words) { return make('option', { value }, words); }

function begin() {
  const counts = new Map(data.classes.map(name => [name, 0])), kinds = new Map();
  images.forEach((image, rank) => {
    image.rank = rank;
    for (const name of new Set([...Object.keys(image.areas), ...image.names || []])) counts.set(name, (counts.get(name) || 0) + 1);
    for (const kind of Object.keys(image.problems)) kinds.set(kind, (kinds.get(kind) || 0) + 1);
  });
  counts.delete(data.classes[0]);
  byId('class').append(option('', 'any class'), ...[...counts].map(([name, count]) => option(name, `${name} (${count})`)));
  const orders = Object.entries(data.orders).filter(([order]) => images.some(image => own(image.order, order)));
  byId('sort').append(...(orders.length ? orders : [['worst', data.orders.worst]]).map(([order, words]) => option(order, words)),
    option('name', 'by name'));
  byId('sort').value = data.order;
  if (!byId('sort').value) byId('sort').selectedIndex = 0;
  for (const kind of Object.keys(data.kinds).filter(each => kinds.has(each))) {
    byId('kinds').append(make('button', { value: kind, 'aria-pressed': false,
      onclick: () => { pressKinds(kind); refilter(); } }, data.kinds[kind], make('b', {}, String(kinds.get(kind)))));
  }
  for (const [name, count] of counts) {
    byId('swatches').append(make('button', { title: 'Only images with it', onclick: () => {
      byId('class').value = name; refilter(); } }, make('i', { class: 'swatch', color: colour(name) }), `${name} (${count})`));
  }
  byId('swatches').append(make('button', { disabled: '' }, make('i', { class: 'swatch striped' }), 'ignored'));
  byId('search').addEventListener('input', () => refilter());
  for (const id of ['class', 'mark', 'sort']) {
    byId(id).addEventListener('change', event => { leave(event.target); refilter(); });
  }
  byId('list').addEventListener('scroll', drawRows, { passive: true });
  addEventListener('resize', drawRows);
  addEventListener('storage', event => {  // marked in another tab
    if (event.key !== data.key) return;
    readMarks();
    drawProgress();
    refilter();
  });
  addEventListener('hashchange', () => { if (follow()) byId('viewer').scrollIntoView(); });
  byId('legend').addEventListener('toggle', () => bringToSight(Math.max(0, shown.at)));
  byId('previous').addEventListener('click', () => select(shown.at - 1));
  byId('next').addEventListener('click', () => select(shown.at + 1));
  byId('help-button').addEventListener('click', () => byId('help').showModal());
  byId('close').addEventListener('click', () => byId('help').close());
  byId('export').addEventListener('click', () => {
    const address = URL.createObjectURL(new Blob([marksAsCsv()], { type: 'text/csv' }));
    make('a', { href: address, download: 'review-marks.csv' }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  });
  filter();
  redrawList();
  drawProgress();
  if (!follow()) select(0, false);
}

begin();
