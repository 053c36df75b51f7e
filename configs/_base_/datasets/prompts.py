"""How FMA-WSSS feeds photographs to prompt tuning: long side 288-480, crop 224."""
prompt_pipeline = [
    dict(type='ResizeLong', size=(288, 480)),
    dict(type='RandomCrop', size=224),
    dict(type='RandomFlip'),
    dict(type='ColorJitter'),
    dict(type='PackSample')]
