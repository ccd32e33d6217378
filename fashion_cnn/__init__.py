"""Dense and small convolutional networks on Fashion-MNIST, recorded so that any run can be replayed."""
