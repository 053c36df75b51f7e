"""The embedded data set for prompt tuning; validation looks at image labels alone."""
_base_ = './shapes.py'
train_dataloader = dict(batch_size=16)
val_dataloader = dict(dataset=dict(with_masks=False))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='MultiLabelMAP')
test_evaluator = val_evaluator
