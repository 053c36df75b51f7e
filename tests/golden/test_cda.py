"""CDA against a literal float64 reading of its description (cda.npz)."""
import pytest
import torch

from weclip_sam.seeds.cda import cda_affinity, class_distributions, cosines, jensen_shannon


@pytest.fixture(params=('class', 'all'))
def scaling(request):
    return request.param


@pytest.fixture
def distributions(cda, cda_case, scaling):
    cos = cosines(cda[f'{cda_case}/features'][None], cda[f'{cda_case}/text'])
    torch.testing.assert_close(cos[0].double(), cda[f'{cda_case}/cos'], atol=2e-6, rtol=0)
    return class_distributions(cos, scaling=scaling)


def test_distributions(cda, cda_case, scaling, distributions, close):
    close(distributions[0], cda[f'{cda_case}/{scaling}/P'], 2e-6)
    close(jensen_shannon(distributions)[0], cda[f'{cda_case}/{scaling}/js'], 2e-6)


def test_affinity_and_both_directions(cda, cda_case, scaling, distributions, close):
    tau, power = float(cda[f'{cda_case}/tau']), int(cda[f'{cda_case}/t'])
    affinity = cda_affinity(distributions, cda[f'{cda_case}/attn_init'][None], tau)[0]
    torch.testing.assert_close(affinity.double(), cda[f'{cda_case}/{scaling}/affinity'], rtol=1e-3, atol=1e-12)
    powered, maps = torch.linalg.matrix_power(affinity, power), cda[f'{cda_case}/cam_init']
    for name, spread in (('right', maps @ powered), ('left', (powered @ maps.T).T)):
        torch.testing.assert_close(spread.double(), cda[f'{cda_case}/{scaling}/cam_{name}'], rtol=1e-3, atol=1e-12)
