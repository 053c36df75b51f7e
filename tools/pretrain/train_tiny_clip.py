r"""Train the bundled tiny CLIP on procedural image-caption pairs.

    python tools/pretrain/train_tiny_clip.py --work-dir work_dirs/tiny_clip    # continues where it was stopped
    python tools/pretrain/train_tiny_clip.py --work-dir work_dirs/tiny_clip \
        --export weclip_sam/foundation/weights/tiny_clip

On a CPU, keeping freed memory saves a third of the time: MALLOC_MMAP_THRESHOLD_=2000000000
MALLOC_TRIM_THRESHOLD_=8000000000.

The model sees images and sentences only, never a mask. Every caption of a batch that is true of an image counts as a
match (pairwise sigmoid loss as in SigLIP). The class token learns from the captions; the patches learn which of the
names that are true of the image fits them (multiple instance learning), so that a word is found where its thing is.
Scenes are rendered in chunks by a background process; a step always takes the same chunk, so a run does not depend on
who was faster. Resuming goes on from the last checkpoint with the same numbers.
"""
from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from captions import NAMES, Caption, name_sentence, scene_facts, truth, write_caption
from safetensors.torch import save_file
from tiny import image_embeddings, pretraining_scene

from weclip_sam.api import choose_device
from weclip_sam.datasets.shapes.reader import ShapesReader, shapes_scene, shapes_vocabulary
from weclip_sam.engine import friendly_errors, prepare_work_dir
from weclip_sam.evaluation.metrics import average_precision
from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.foundation.text import text_features
from weclip_sam.seeds.gradcam import gradcam
from weclip_sam.seeds.scores import resize_maps

CARD = Path(__file__).parents[2] / 'weclip_sam/foundation/weights/tiny_clip.json'
# Shapes uses seed blocks 0 (train), 1 (val) and 2 (tuning); pretraining has blocks of its own.
SEED_BLOCK = 77
CHUNK = 4096
MEAN = torch.tensor([122.77, 116.75, 104.09]).view(1, 3, 1, 1)
STD = torch.tensor([68.50, 66.63, 70.32]).view(1, 3, 1, 1)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/tiny_clip'),
                        help='checkpoint, log and rendered scenes (default: %(default)s)')
    parser.add_argument('--stages', default='80:0.5:170000,112:0.4:155000,112:1.0:8000',
                        help='SIZE:SHARE:SAMPLES, comma separated: pixels of a side, share of the patches kept, images '
                             'seen (default: %(default)s)')
    parser.add_argument('--chunks', type=int, default=16,
                        help=f'distinct chunks of {CHUNK} scenes per size (default: %(default)s)')
    parser.add_argument('--batch', type=int, default=128, help='images per iteration (default: %(default)s)')
    parser.add_argument('--lr', type=float, default=1e-3, help='peak learning rate of AdamW (default: %(default)s)')
    parser.add_argument('--local-from', type=int, default=0,
                        help='iteration from which the local loss counts (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of weights, order and scenes (default: %(default)s)')
    parser.add_argument('--save-every', type=int, default=200,
                        help='iterations between checkpoints (default: %(default)s)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='(default: cuda where there is one)')
    parser.add_argument('--threads', type=int, default=0,
                        help='CPU threads; 0 leaves the choice to torch (default: %(default)s)')
    parser.add_argument('--note', default='', help='kept in the provenance of an export')
    parser.add_argument('--export', type=Path, help='write PREFIX.safetensors and PREFIX.provenance.json, and stop')
    return parser.parse_args(argv)


def render_chunk(folder: Path, size: int, number: int, seed: int) -> None:
    """Write chunk ``number``: images as .npy, captions and facts as .json."""
    target = folder / f'{size}_{number:04d}'
    if target.with_suffix('.json').exists():
        return
    images = np.empty((CHUNK, size, size, 3), np.uint8)
    notes = []
    for i in range(CHUNK):
        rng = np.random.default_rng([seed, SEED_BLOCK, size, number * CHUNK + i])
        scene = pretraining_scene(rng, size)
        images[i] = scene.image
        captions = [write_caption(scene, rng) for _ in range(4)]
        notes.append([scene_facts(scene), [[c.text, c.states] for c in captions]])
    with open(f'{target}.npy.tmp', 'wb') as file:
        np.save(file, images)
    os.replace(f'{target}.npy.tmp', f'{target}.npy')
    Path(f'{target}.json.tmp').write_text(json.dumps(notes))
    os.replace(f'{target}.json.tmp', f'{target}.json')


def render_all(folder: Path, sizes: list[int], chunks: int, seed: int) -> None:
    import cv2
    cv2.setNumThreads(1)
    for size in sizes:
        for number in range(chunks):
            render_chunk(folder, size, number, seed)


class Schedule:
    """Which size, patch share and chunk each iteration uses."""

    def __init__(self, text: str, batch: int) -> None:
        self.stages = [self._stage(part, batch) for part in text.split(',')]
        self.total = sum(n for *_, n in self.stages)
        self.batch = batch

    @staticmethod
    def _stage(part: str, batch: int) -> tuple[int, float, int]:
        """Size, share and iterations of one part of ``--stages``."""
        try:
            size, keep, samples = part.split(':')
            stage = int(size), float(keep), int(samples)
        except ValueError:
            raise ValueError(f"--stages: '{part}' is not SIZE:SHARE:SAMPLES, expected for example 80:0.5:170000"
                             ) from None
        patch = json.loads(CARD.read_text())['vision_cfg']['patch_size']
        for right, what in ((stage[0] > 0 and stage[0] % patch == 0, f'size {size}: expected a multiple of {patch}'),
                            (0 < stage[1] <= 1, f'share {keep}: expected more than 0 and at most 1'),
                            (stage[2] >= batch, f'samples {samples}: expected at least one batch ({batch}; --batch)')):
            if not right:
                raise ValueError(f"--stages: '{part}': {what}")
        return stage[0], stage[1], stage[2] // batch

    def __call__(self, iteration: int) -> tuple[int, float, int]:
        for size, keep, count in self.stages:
            if iteration < count:
                return size, keep, iteration
            iteration -= count
        raise IndexError('past the end of the schedule')


class Chunks:
    """Batches from the chunks on disk: chunk after chunk, shuffled inside, waiting for one that is still rendered."""

    def __init__(self, folder: Path, count: int, batch: int, seed: int) -> None:
        self.folder, self.count, self.batch, self.seed = folder, count, batch, seed
        self.open: tuple[int, int] | None = None

    def __call__(self, size: int, position: int) -> tuple[torch.Tensor, list, list[Caption]]:
        per_chunk = CHUNK // self.batch
        visit, step = divmod(position, per_chunk)
        number = visit % self.count
        if self.open != (size, visit):
            path = self.folder / f'{size}_{number:04d}.json'
            while not path.exists():
                time.sleep(0.5)
            self.notes = json.loads(path.read_text())
            self.images = np.load(path.with_suffix('.npy'), mmap_mode='r')
            self.order = np.random.default_rng([self.seed, size, visit]).permutation(CHUNK)
            self.open = (size, visit)
        rng = np.random.default_rng([self.seed, size, position, 1])
        rows = np.sort(self.order[step * self.batch:(step + 1) * self.batch])
        images = torch.from_numpy(self.images[rows]).permute(0, 3, 1, 2).float()
        flip = torch.from_numpy(rng.random(len(rows)) < 0.5)
        images[flip] = images[flip].flip(3)
        gain = torch.from_numpy(rng.uniform(0.85, 1.15, (len(rows), 3, 1, 1)).astype(np.float32))
        notes = [self.notes[r] for r in rows]
        captions = [Caption(*n[1][rng.integers(len(n[1]))]) for n in notes]
        return ((images * gain).clamp(0, 255) - MEAN) / STD, [n[0] for n in notes], captions


def build(seed: int) -> torch.nn.Module:
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg
    torch.manual_seed(seed)
    card = json.loads(CARD.read_text())
    model = open_clip.CLIP(card['embed_dim'], CLIPVisionCfg(**card['vision_cfg']), CLIPTextCfg(**card['text_cfg']),
                           quick_gelu=card['quick_gelu'])
    with torch.no_grad():
        model.logit_scale.fill_(math.log(10))
    return model


class Heads(torch.nn.Module):
    """Biases of the two losses and the scale of the local one; the class token's scale is CLIP's own."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.tensor(-5.0))
        self.local_bias = torch.nn.Parameter(torch.tensor(-3.0))
        self.local_scale = torch.nn.Parameter(torch.tensor(math.log(10)))


def pair_loss(logits, match):
    """Sigmoid loss over all image-caption pairs; matches and the rest weigh the same."""
    loss = F.binary_cross_entropy_with_logits(logits, match, reduction='none')
    return 0.5 * ((loss * match).sum() / match.sum().clamp(min=1) + (loss * (1 - match)).sum()
                  / (1 - match).sum().clamp(min=1))


def local_loss(similar, present, heads):
    """Multiple-instance loss of the patches against one sentence per class and background.

    Every patch is shared out among the names that are true of its image, by how well they fit; a name is scored by the
    patches it got. A name that is not true must fit no patch (soft maximum).

    Args:
        similar: B P N cosines of patches and names.
        present: B N float, 1 where the name is true of the image.
    """
    scale = heads.local_scale.exp()
    with torch.no_grad():
        share = (scale * similar).masked_fill(present[:, None] == 0, float('-inf')).softmax(2)
        share = share / share.sum(1, keepdim=True).clamp(min=1e-6)
    mine = (similar * share).sum(1)
    strongest = (similar * (similar.detach() * 15).softmax(1)).sum(1)
    logits = scale * torch.where(present > 0, mine, strongest) + heads.local_bias
    return pair_loss(logits, present)


def losses(model, heads, images, tokens, match, present, keep, generator):
    """Global loss of the class token on the captions, which come first in ``tokens``; local loss on the names after."""
    embeddings, values, gathered = (F.normalize(e.float(), dim=-1)
                                    for e in image_embeddings(model, images, keep, generator))
    text = F.normalize(model.encode_text(tokens).float(), dim=1)
    captions = match.shape[1]
    logits = model.logit_scale.exp() * embeddings[:, 0] @ text[:captions].T + heads.bias
    names = text[captions:].T
    local = sum(weight * local_loss(patches @ names, present, heads)
                for weight, patches in ((1.0, gathered), (0.25, values), (0.25, embeddings[:, 1:])))
    return pair_loss(logits, match), local, logits


def save(path: Path, state: dict) -> None:
    torch.save(state, path.with_suffix('.tmp'))
    os.replace(path.with_suffix('.tmp'), path)


def export(prefix: Path, state: dict, args: argparse.Namespace) -> None:
    """fp16 safetensors; rows of words that no caption uses are zeroed (they were never trained)."""
    weights = {k: v.detach().cpu().half().contiguous() for k, v in state['model'].items() if k != 'attn_mask'}
    used = torch.tensor(sorted(state['words']))
    table = torch.zeros_like(weights['token_embedding.weight'])
    table[used] = weights['token_embedding.weight'][used]
    weights['token_embedding.weight'] = table
    prefix.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, f'{prefix}.tmp', metadata={'format': 'pt'})
    os.replace(f'{prefix}.tmp', f'{prefix}.safetensors')
    note = dict(command=state['command'], seed=args.seed, samples_seen=state['iteration'] * args.batch,
                wall_seconds=round(state['seconds']), hardware=state['hardware'], torch=torch.__version__,
                logit_scale=float(state['model']['logit_scale'].exp()), history=args.note, metrics=measure(prefix))
    Path(f'{prefix}.provenance.json').write_text(json.dumps(note, indent=2) + '\n')
    print(json.dumps(note, indent=2))


@torch.no_grad()
def measure(prefix: Path, images: int = 300) -> dict[str, float]:
    """On shapes val: zero-shot mAP (class token, mean patch), mean GradCAM on telling parts, bodies and background."""
    clip = FrozenClip('tiny', f'{prefix}.safetensors')
    reader, names = ShapesReader('val', images), shapes_vocabulary()
    text = text_features(clip, [*names.prompt_names, *names.background_nouns], ('a photo of a {}.',))
    labels = torch.zeros(images, names.num_classes, dtype=torch.bool)
    whole, mean, cams = [], [], dict(part=[], body=[], background=[])
    for i, record in enumerate(reader.records):
        labels[i, list(record.classes)] = True
        scene = shapes_scene('val', i, 112, 0)
        features = clip.encode(x := clip.normalize(torch.from_numpy(scene.image).permute(2, 0, 1)[None]))
        whole.append(F.normalize(clip.encode_image(x), dim=1) @ text[:names.num_classes].T)
        mean.append(clip.finish(features.last_block_input)[0] @ text[:names.num_classes].T)
        maps = gradcam(clip, features, text, labels[i:i + 1])
        scores = resize_maps(maps.scores, scene.image.shape[:2]).numpy()
        for score, c in zip(scores, maps.class_index.tolist(), strict=True):
            seen = next(s for s in scene.instances if s.name == names.classes[c])
            cams['body'].append(score[seen.parts[0][1]].mean() if seen.parts[0][1].any() else 0.0)
            cams['part'].append(score[seen.parts[1][1]].mean())
            cams['background'].append(score[scene.label_map() == 0].mean())
    scores = {f'mAP_{k}': 100 * float(average_precision(torch.cat(v), labels).nanmean())
              for k, v in (('class_token', whole), ('mean_patch', mean))}
    return {k: round(v, 3) for k, v in {**scores, **{f'cam_{k}': float(np.mean(v)) for k, v in cams.items()}}.items()}


def train(args: argparse.Namespace, checkpoint: Path) -> None:
    """Train from the start, or go on from ``checkpoint``."""
    if not 1 <= args.batch <= CHUNK:
        raise ValueError(f'--batch {args.batch}: expected 1 to {CHUNK} images')
    for name, value in (('chunks', args.chunks), ('save-every', args.save_every)):
        if value < 1:
            raise ValueError(f'--{name} {value}: expected at least 1')
    choose_device(args.device)
    schedule = Schedule(args.stages, args.batch)
    prepare_work_dir(args.work_dir)
    sizes = list(dict.fromkeys(s for s, *_ in schedule.stages))
    folder = args.work_dir / 'chunks'
    folder.mkdir(exist_ok=True)
    renderer = multiprocessing.get_context('spawn').Process(
        target=render_all, args=(folder, sizes, args.chunks, args.seed), daemon=True)
    renderer.start()
    model = build(args.seed).to(args.device)
    heads = Heads().to(args.device)
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2] + [*heads.parameters()]
    optimizer = torch.optim.AdamW([dict(params=decay, weight_decay=0.05), dict(params=rest, weight_decay=0.0)],
                                  lr=args.lr, betas=(0.9, 0.98))
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    batches = Chunks(folder, args.chunks, args.batch, args.seed)
    start, spent, words = 0, 0.0, set()
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=args.device)
        model.load_state_dict(state['model'])
        optimizer.load_state_dict(state['optimizer'])
        heads.load_state_dict(state['heads'])
        start, spent, words = state['iteration'], state['seconds'], set(state['words'])
    began = time.time()
    for iteration in range(start, schedule.total):
        size, keep, position = schedule(iteration)
        images, facts, captions = batches(size, position)
        names = np.random.default_rng([args.seed, iteration])
        tokens = tokenizer([c.text for c in captions] + [name_sentence(f, names) for f in NAMES])
        words |= set(tokens.unique().tolist())
        match = torch.from_numpy(truth(facts, [c.states for c in captions])).float().to(args.device)
        present = torch.from_numpy(truth(facts, [(f,) for f in NAMES])).float().to(args.device)
        done = iteration / schedule.total
        rate = args.lr * min((iteration + 1) / 200, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group['lr'] = rate
        generator = torch.Generator(args.device).manual_seed(args.seed * 1_000_003 + iteration)
        with torch.autocast(torch.device(args.device).type, dtype=torch.bfloat16):
            whole, local, logits = losses(model, heads, images.to(args.device), tokens.to(args.device), match, present,
                                          keep, generator)
        loss = whole + local if iteration >= args.local_from else whole
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*decay, *rest], 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(60))
        if (iteration + 1) % 20 == 0:
            with torch.no_grad():
                gap = (logits[match > 0].mean() - logits[match == 0].mean()).item()
            seconds = spent + time.time() - began
            print(json.dumps(dict(iteration=iteration + 1, of=schedule.total, samples=(iteration + 1) * args.batch,
                                  loss=round(whole.item(), 4), local=round(local.item(), 4), gap=round(gap, 3),
                                  scale=round(model.logit_scale.exp().item(), 2), size=size, lr=round(rate, 6),
                                  seconds=round(seconds))), flush=True)
        if (iteration + 1) % args.save_every == 0 or iteration + 1 == schedule.total:
            save(checkpoint, dict(model=model.state_dict(), optimizer=optimizer.state_dict(), heads=heads.state_dict(),
                                  iteration=iteration + 1, seconds=spent + time.time() - began, words=sorted(words),
                                  command=' '.join(['python', *sys.argv]), hardware=f'{platform.machine()}, '
                                  f'{torch.get_num_threads()} threads, {args.device}'))


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with friendly_errors(on_stop=lambda: 'The same command goes on.'):
        checkpoint = args.work_dir / 'last.pth'
        if args.threads > 0:
            torch.set_num_threads(args.threads)
        if not args.export:
            train(args, checkpoint)
        elif checkpoint.is_file():
            export(args.export, torch.load(checkpoint, weights_only=True, map_location='cpu'), args)
        else:
            raise FileNotFoundError(f'{checkpoint}: no checkpoint to export; train first (the same command without '
                                    '--export), or name the --work-dir of a training run')


if __name__ == '__main__':
    main()
