"""The package's child registries, all in the scope ``weclip_sam``.

A child registry looks in itself first and in mmengine's root afterwards, so configs may name both this package's
types and mmengine's. ``locations`` lets a registry import the modules that fill it the first time it is asked,
so a config works however the package was imported.
"""
from mmengine import registry as root
from mmengine.registry import Registry

SCOPE = 'weclip_sam'


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope=SCOPE, locations=[f'{SCOPE}.{where}' for where in locations])


DATASETS = _child('dataset', root.DATASETS, 'datasets')
TRANSFORMS = _child('transform', root.TRANSFORMS, 'datasets')
DATA_SAMPLERS = _child('data sampler', root.DATA_SAMPLERS, 'datasets')
MODELS = _child('model', root.MODELS, 'foundation', 'models')
METRICS = _child('metric', root.METRICS, 'evaluation')
HOOKS = _child('hook', root.HOOKS, 'engine', 'offline')
LOOPS = _child('loop', root.LOOPS, 'engine')
OPTIM_WRAPPERS = _child('optimizer wrapper', root.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('optimizer wrapper constructor', root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
PARAM_SCHEDULERS = _child('parameter scheduler', root.PARAM_SCHEDULERS, 'engine')
LOG_PROCESSORS = _child('log processor', root.LOG_PROCESSORS, 'engine')
VISUALIZERS = _child('visualizer', root.VISUALIZERS, 'visualization')
VISBACKENDS = _child('visualizer backend', root.VISBACKENDS, 'visualization', 'engine')
# Filled by mmengine alone; without a child here every look-up would warn that the scope is unknown.
MODEL_WRAPPERS = _child('model wrapper', root.MODEL_WRAPPERS)
WEIGHT_INITIALIZERS = _child('weight initializer', root.WEIGHT_INITIALIZERS)
OPTIMIZERS = _child('optimizer', root.OPTIMIZERS)
EVALUATOR = _child('evaluator', root.EVALUATOR)
TASK_UTILS = _child('task util', root.TASK_UTILS)
FUNCTIONS = _child('function', root.FUNCTIONS)
RUNNERS = _child('runner', root.RUNNERS)
RUNNER_CONSTRUCTORS = _child('runner constructor', root.RUNNER_CONSTRUCTORS)
STRATEGIES = _child('strategy', root.STRATEGIES)
INFERENCERS = _child('inferencer', root.INFERENCERS)
# Only this package has seed steps: each turns a SeedState into a SeedState.
SEED_STEPS = Registry('seed step', scope=SCOPE, locations=[f'{SCOPE}.seeds'])
# A reader lists the images of one kind of data set; ImageLabelDataset does the rest.
READERS = Registry('reader', scope=SCOPE, locations=[f'{SCOPE}.datasets'])
