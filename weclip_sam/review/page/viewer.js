// The image that is looked at: pictures over each other, what is known of it, its mark.
const visible = { labels: true, strength: 0.6, confidence: false, cam: false, sam: false, decoder: false };
const MARKS = [['ok', 'o'], ['wrong', 'w'], ['later', 'l']];

function draw() {
  const image = shown.list[shown.at];
  for (const part of ['stage', 'marks', 'layers', 'facts', 'place']) byId(part).replaceChildren();
  byId('name').textContent = image ? image.name : 'No image fits these filters';
  byId('name').removeAttribute('href');
  byId('stage').style.width = byId('stage').style.aspectRatio = '';
  if (!image) return;
  if (image.link) byId('name').setAttribute('href', image.link);
  byId('place').textContent = `${shown.at + 1} of ${shown.list.length} · ` + (image.size[0]
    ? `${image.size[1]} × ${image.size[0]} pixels` : 'no label');
  drawStage(image);
  drawMarks(image);
  drawLayers(image);
  drawFacts(image);
}

function drawStage(image) {
  const [height, width] = image.size[0] ? image.size : [3, 4], stage = byId('stage');
  stage.style.aspectRatio = `${width} / ${height}`;
  stage.style.width = `min(100%, calc(58vh * ${width / height}))`;
  for (const layer of ['photo', 'confidence', 'labels', 'cam', 'sam', 'decoder']) {
    const source = own(image.layers, layer);
    if (source) stage.append(make('img', { src: source, alt: layer === 'photo' ? image.name : '', id: `layer-${layer}` }));
  }
  if (!own(image.layers, 'photo')) stage.append(make('p', {}, image.lost ? `There is no photo ${image.photo}` : image.photo ? 'The photo cannot be read' : ''));
  showLayers();
}

function showLayers() {
  for (const layer of ['confidence', 'labels', 'cam', 'sam', 'decoder']) {
    const picture = byId(`layer-${layer}`);
    if (picture) picture.hidden = !visible[layer];
  }
  const labels = byId('layer-labels');
  if (labels) labels.style.opacity = byId('layer-photo') ? visible.strength : 1;
  for (const box of byId('layers').querySelectorAll('input[type=checkbox]')) box.checked = visible[box.value];
}

function drawMarks(image) {
  for (const [mark, key] of MARKS) {
    byId('marks').append(make('button', { class: mark, value: mark, 'aria-pressed': markOf(image) === mark, title: `Key ${key}`,
      onclick: () => applyMark(mark) }, mark === 'ok' ? 'OK' : mark[0].toUpperCase() + mark.slice(1)));
  }
}

function drawLayers(image) {
  const toggle = (layer, words, ...before) => make('label', {}, make('input', { type: 'checkbox', value: layer,
    onchange: event => { visible[layer] = event.target.checked; showLayers(); leave(event.target); } }), ...before, words);
  const slider = make('input', { type: 'range', min: 0, max: 1, step: 0.05, value: visible.strength,
    'aria-label': 'Strength of the label', oninput: event => { visible.strength = +event.target.value; showLayers(); },
    onchange: event => leave(event.target) });
  byId('layers').append(toggle('labels', 'label'), slider);
  if (own(image.layers, 'confidence')) byId('layers').append(toggle('confidence', 'unsure'));
  const doubts = Object.entries(data.doubts).filter(([who]) => own(image.layers, who));
  if (doubts.length) {
    byId('layers').append(make('span', { class: 'group' }, make('span', { class: 'faint' }, 'disagree:'), ...doubts.map(
      ([who, { words, color }]) => toggle(who, words, make('i', { class: 'hatch', color: hatch(who, color) })))));
  }
  showLayers();
}

function hatch(who, color) {
  const angle = { cam: '135deg', sam: '45deg', decoder: '0deg' }[who];
  return `repeating-linear-gradient(${angle}, ${color} 0 3px, #222 3px 4px, #fff 4px 7px)`;
}

function drawFacts(image) {
  const section = (title, ...content) => byId('facts').append(make('section', {}, make('h2', {}, title), ...content));
  const problems = Object.values(image.problems);
  if (problems.length) section('May be wrong', make('ul', {}, ...problems.map(text => make('li', {}, text))));
  if (image.names) {
    const chips = image.names.map(name => chip(name, image.missing.includes(name) ? 'absent' : ''));
    chips.push(...image.extra.map(name => chip(name, 'extra')));
    section('Given names', chips.length ? make('div', { class: 'chips' }, ...chips) : 'none: background only');
  }
  if (image.size[0]) section(image.corrected ? 'Label, corrected since made' : 'Label', classTable(image));
  const doubts = Object.entries(image.doubts);
  if (doubts.length) {
    section('Disagree with the label on', make('table', {}, make('tbody', {}, ...doubts.map(([who, share]) =>
      make('tr', {}, make('td', {}, (own(data.doubts, who) || { words: who }).words),
        make('td', {}, percent(share)))))));
  }
}

function chip(name, kind) {
  const told = { absent: ' (not labelled)', extra: ' (not named)' }[kind] || '';
  return make('span', { class: `chip ${kind}` }, make('i', { class: 'swatch', color: colour(name) }), name + told);
}

function classTable(image) {
  const known = [['area', image.areas], ['confidence', image.scores], ['CLIP', image.clip]]
    .filter(([title, values]) => title === 'area' || Object.keys(values).length);
  const named = Object.keys(image.clip).filter(name => own(image.areas, name) === undefined);
  const body = [...Object.keys(image.areas), ...named].map(name => make('tr', {},
    make('td', {}, make('i', { class: 'swatch', color: colour(name) }), name),
    ...known.map(([title, values]) => {
      const value = own(values, name);
      return make('td', title !== 'area' && value < data.low[title] ? { class: 'low' } : {},
        value === undefined ? '' : title === 'area' ? percent(value) : value.toFixed(2));
    })));
  if (image.ignored) {
    body.push(make('tr', {}, make('td', {}, make('i', { class: 'swatch striped' }), 'ignored'),
      make('td', {}, percent(image.ignored)), ...known.slice(1).map(() => make('td', {}))));
  }
  body.push(make('tr', {}, make('td', {}, make('i', { class: 'swatch', color: '#fff' }), 'background'),
    make('td', {}, percent(image.background)), ...known.slice(1).map(() => make('td', {}))));
  return make('table', {}, make('thead', {}, make('tr', {}, make('th', {}, 'class'),
    ...known.map(([title]) => make('th', {}, title)))), make('tbody', {}, ...body));
}
