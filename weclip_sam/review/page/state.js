// The data of the page, what of it is shown, and the marks. Names are strangers' text: they only ever become text nodes.
const data = JSON.parse(document.getElementById('data').textContent);
const images = data.images;
const shown = { list: [], at: -1, kinds: new Set() };

const byId = id => document.getElementById(id);
const own = (object, key) => Object.hasOwn(object, key) ? object[key] : undefined;

function percent(share) {
  if (share === undefined) return '';
  if (share > 0 && share < 0.0005) return '< 0.1 %';
  if (share < 1 && share > 0.9995) return '> 99.9 %';
  return `${(100 * share).toFixed(share > 0 && share < 0.0995 || share > 0.995 && share < 1 ? 1 : 0)} %`;
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'color') element.style.background = value;
    else if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function colour(name) {
  const label = data.classes.indexOf(name);
  return label < 0 ? '#fff' : data.palette[label];
}

function anchor(name) {
  try { return '#' + encodeURIComponent(name); } catch { return '#' + encodeURIComponent(name.toWellFormed()); }
}

// Marks: by name, what was said of a label with this digest. A label that was made anew is not marked any more.
const marks = new Map();
let remembered = true;
function readMarks() {
  try {
    const kept = JSON.parse(localStorage.getItem(data.key) || '[]').map(([name, [mark, digest]]) => [name, [mark, digest]]);
    marks.clear();
    for (const [name, mark] of kept) marks.set(name, mark);
  } catch { remembered = false; }
}
readMarks();

function markOf(image) {
  const [mark, digest] = marks.get(image.name) || ['', ''];
  return digest === image.digest ? mark : '';
}

function setMark(image, mark) {
  const again = markOf(image) === mark;
  if (remembered) readMarks();  // another tab may have marked others
  if (again) marks.delete(image.name); else marks.set(image.name, [mark, image.digest]);
  try { localStorage.setItem(data.key, JSON.stringify([...marks])); } catch { remembered = false; }
}

function marksAsCsv() {
  const field = text => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const lines = images.filter(markOf).map(image =>
    [image.name, markOf(image), image.photo, Object.keys(image.problems).join(';')].map(field).join(','));
  return ['name,mark,image,problems', ...lines].join('\n') + '\n';
}

function wanted(image) {
  const text = byId('search').value.trim().normalize('NFC').toLowerCase();
  const name = byId('class').value, mark = byId('mark').value;
  return (!text || image.name.toLowerCase().includes(text))
    && (!name || own(image.areas, name) !== undefined || (image.names || []).includes(name))
    && (!mark || (markOf(image) || 'none') === mark)
    && (!shown.kinds.size || Object.keys(image.problems).some(kind => shown.kinds.has(kind)));
}

function filter() {
  const order = byId('sort').value, worse = image => own(image.order, order) || 0;
  shown.list = images.filter(wanted);
  if (order === 'name') shown.list.sort((a, b) => a.place - b.place);
  else shown.list.sort((a, b) => worse(b) - worse(a) || a.rank - b.rank);
}
