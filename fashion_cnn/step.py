"""The compiled epoch: the same function as the plain network's, computed in the order that costs least.

Two of a training step's parts are rearranged, and one operation replaces many:

- A convolution's bias and ReLU come after the pooling: a maximum and a function that never falls commute, and they
  have a quarter of the values to work on. Values are the same to the last bit where the kernels are; gradients differ
  only where two values of a window are equal after the bias.
- A dense layer is a plain product. The fused one of oneDNN is three times as slow for the hidden layer.
- Adam's update of a variable is TensorFlow's one operation for it, with Keras' variables and Keras' formula
  (Kingma and Ba 2015, arXiv:1412.6980, the form before section 2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


def compiled_epoch(model: Any, pixels: Any, labels: Any, batch_size: int, *, mirrored: bool = False) -> Any:
    """The function (order, int32, (m,)) -> (sum of losses, number right), traced and warmed up on no images.

    The order has places of images, 0 to n - 1; where they are mirrored, a place of n or more is the mirror image of the
    one n before.

    Args:
        model: a compiled Keras model whose last layer is a softmax and whose optimizer is Adam, built.
        pixels: (n, 28, 28, 1), float32 in 0..1.
        labels: (n,), int32.
        batch_size: images a step; the last step of an epoch may have fewer.
        mirrored: whether the order has 2 n places.
    """
    variables = model.trainable_variables
    images = len(pixels)
    update = adam_update(model.optimizer, variables)

    def step(order: Any, start: Any) -> tuple[Any, Any]:
        """Train one batch: the sum of its images' losses, and how many of them were answered rightly."""
        chosen = order[start : tf.minimum(start + batch_size, tf.size(order))]
        places = chosen % images if mirrored else chosen
        truth, values = tf.gather(labels, places), tf.gather(pixels, places)
        values = with_mirror_images(values, chosen >= images) if mirrored else values
        with tf.GradientTape() as tape:
            logits = training_logits(model.layers, values)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits))
        update(tape.gradient(loss, [variable.value for variable in variables]))
        answers = tf.argmax(logits, axis=1, output_type=tf.int32)
        loss_sum = tf.cast(loss, tf.float64) * tf.cast(tf.size(chosen), tf.float64)
        return loss_sum, tf.reduce_sum(tf.cast(answers == truth, tf.int32))

    # AutoGraph would write the loop itself, but rewrites the source through a file that an ended worker leaves behind.
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32)], autograph=False)  # type: ignore[untyped-decorator]
    def epoch(order: Any) -> tuple[Any, Any]:
        def body(start: Any, loss_sum: Any, correct: Any) -> tuple[Any, Any, Any]:
            more_loss, more_correct = step(order, start)
            return start + batch_size, loss_sum + more_loss, correct + more_correct

        nothing = tf.zeros((), tf.int32), tf.zeros((), tf.float64), tf.zeros((), tf.int32)
        _, loss_sum, correct = tf.while_loop(lambda start, *_: start < tf.size(order), body, nothing)
        return loss_sum, correct

    epoch(tf.zeros((0,), tf.int32))
    return epoch


def with_mirror_images(values: Any, where: Any) -> Any:
    """The images of a batch, those of them mirrored that are to be: left and right exchanged.

    Args:
        values: (n, height, width, channels).
        where: (n,), bool.

    Returns:
        As `values`.
    """
    return tf.where(where[:, tf.newaxis, tf.newaxis, tf.newaxis], tf.reverse(values, axis=[2]), values)


def training_logits(layers: Sequence[Any], values: Any) -> Any:
    """What the last layer computes before its softmax, of a batch.

    Args:
        layers: of a sequential model, the input layer left out.
        values: (n, 28, 28, 1), float32.

    Returns:
        (n, classes), float32.
    """
    remaining = list(layers)
    while remaining:
        layer = remaining.pop(0)
        if isinstance(layer, keras.layers.Conv2D) and remaining and isinstance(remaining[0], keras.layers.MaxPooling2D):
            values = _convolved_and_pooled(layer, remaining.pop(0), values)
        elif isinstance(layer, keras.layers.Dense):
            values = tf.matmul(values, layer.kernel.value) + layer.bias.value
            values = tf.nn.relu(values) if layer.activation is keras.activations.relu else values
        else:
            values = layer(values, training=True)
    return values


def _convolved_and_pooled(convolution: Any, pooling: Any, values: Any) -> Any:
    padding = convolution.padding.upper()
    values = tf.nn.conv2d(values, convolution.kernel.value, convolution.strides, padding)
    values = tf.nn.max_pool2d(values, pooling.pool_size, pooling.strides, pooling.padding.upper())
    return tf.nn.relu(tf.nn.bias_add(values, convolution.bias.value))


def adam_update(optimizer: Any, variables: Sequence[Any]) -> Callable[[Sequence[Any]], None]:
    """A function that applies gradients as a built Keras Adam does, to its own variables.

    Args:
        optimizer: `keras.optimizers.Adam` as it comes: a constant learning rate, no decay, clipping or averaging.
        variables: that it was built for, in their order.
    """
    momentums = [slot for slot in optimizer.variables if slot.name.endswith("_momentum")]
    velocities = [slot for slot in optimizer.variables if slot.name.endswith("_velocity")]
    slots = list(zip(variables, momentums, velocities, strict=True))

    def update(gradients: Sequence[Any]) -> None:
        step = tf.cast(optimizer.iterations.value + 1, tf.float32)
        powers = {
            "beta1_power": tf.pow(tf.constant(optimizer.beta_1, tf.float32), step),
            "beta2_power": tf.pow(tf.constant(optimizer.beta_2, tf.float32), step),
        }
        for (variable, momentum, velocity), gradient in zip(slots, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=momentum.value.handle,
                v=velocity.value.handle,
                **powers,
                lr=optimizer.learning_rate.value,
                beta1=optimizer.beta_1,
                beta2=optimizer.beta_2,
                epsilon=optimizer.epsilon,
                grad=gradient,
            )
        optimizer.iterations.assign_add(1)

    return update
