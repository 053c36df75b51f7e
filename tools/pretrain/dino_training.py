"""Self-supervision from films without names and masks: the network and its two losses.

The network learns to tell, from one view, which of all views are of the same film (``films.py``): from its class token
(InfoNCE with several positives, as SimCLR and SupCon write it), and from every single patch, so that a patch knows of
which thing it is a part.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

# Network -------------------------------------------------------------------------------------------------------------

class Learner(nn.Module):
    """A vision transformer, and one head each for the view and its patches; the heads are not kept."""

    def __init__(self, card: dict, hidden: int = 256, embedding: int = 64) -> None:
        super().__init__()
        self.vit = VisionTransformer(**card)
        for block in self.vit.blocks:
            block.attn.fused_attn = False  # on a CPU, plain products train some sixty tokens 1.3 times faster
        width = self.vit.embed_dim
        self.view_head, self.patch_head = (
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, embedding)) for _ in range(2))

    def forward(self, images: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embeddings of unit length of N 3 H W normalised images.

        Args:
            keep: N P' indices of the patches that are read (default: all).

        Returns:
            N E of the views, N P' E of their patches.
        """
        vit = self.vit
        x = vit._pos_embed(vit.patch_embed(images))
        if keep is not None:
            patches = x[:, 1:].gather(1, keep[..., None].expand(-1, -1, x.shape[2]))
            x = torch.cat([x[:, :1], patches], 1)
        x = vit.norm_pre(x)
        for block in vit.blocks:
            x = block(x)
        x = vit.norm(x)
        return (F.normalize(self.view_head(x[:, 0]).float(), dim=-1),
                F.normalize(self.patch_head(x[:, 1:]).float(), dim=-1))


# Losses --------------------------------------------------------------------------------------------------------------

def same_film_loss(views: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Which of all other views are of the same film?

    Args:
        views: F N E of unit length, F frames of each of N films.
        temperature: of the cosines.

    Returns:
        The loss: mean over views and over their F - 1 positives of -log softmax over all other views. The share of
        views whose nearest other view is one of the same film.
    """
    frames, films = views.shape[:2]
    flat = views.flatten(0, 1)
    logits = flat @ flat.T / temperature
    logits.fill_diagonal_(-torch.inf)
    film = torch.arange(films, device=views.device).repeat(frames)
    same = (film[:, None] == film) & ~torch.eye(len(film), dtype=torch.bool, device=views.device)
    loss = -logits.log_softmax(1)[same].mean()
    return loss, (film[logits.argmax(1)] == film).float().mean()


def patch_film_loss(patches: Tensor, views: Tensor, temperature: float, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """Which film is this patch of, by the other frames?

    Args:
        patches: F N P E of unit length.
        views: F N E of unit length; they are what is looked for, and do not move.
        temperature: of the cosines.
        share: of the patches of a view, those that tell best count. A patch of the background has nothing that the
            other frames show, and need not learn from its neighbours what they are part of.

    Returns:
        The loss: mean over the patches that count of -log softmax over films; a film is the mean view of its frames but
        the patch's own. The share of all patches that name theirs.
    """
    frames, films, count = patches.shape[:3]
    others = F.normalize(views.detach().sum(0) - views.detach(), dim=-1)
    logits = torch.einsum('fnpe,fme->fnpm', patches, others) / temperature
    film = torch.arange(films, device=patches.device).view(1, films, 1).expand(frames, films, count)
    loss = F.cross_entropy(logits.flatten(0, 2), film.flatten(), reduction='none').view(frames, films, count)
    loss = loss.topk(max(1, round(share * count)), largest=False).values.mean()
    return loss, (logits.argmax(-1) == film).float().mean()
