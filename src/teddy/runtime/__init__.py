"""How a stage is run: Lightning's Trainer, loggers, progress, seeds. Nothing here knows about distillation."""
