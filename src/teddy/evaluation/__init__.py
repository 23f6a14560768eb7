"""Students: networks trained from scratch on distilled images, whose accuracy on real test images is the result."""
