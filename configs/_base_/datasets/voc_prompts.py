"""VOC for prompt tuning as in FMA-WSSS; validation looks at image labels alone."""
_base_ = ['./voc.py', './prompts.py']
train_dataloader = dict(batch_size=16, dataset=dict(pipeline={{_base_.prompt_pipeline}}))
val_dataloader = dict(dataset=dict(with_masks=False))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='MultiLabelMAP')
test_evaluator = val_evaluator
