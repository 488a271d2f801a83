// RUN: not zopt %s --zopt-add-loss=loss=hinge 2>&1 | FileCheck %s --check-prefix=LOSS
// RUN: not zopt %s --zopt-add-loss=logits=probabilities 2>&1 | FileCheck %s --check-prefix=LOGITS
// RUN: not zopt %s --zopt-add-loss=logits=ids 2>&1 | FileCheck %s --check-prefix=INTEGERS
// RUN: not zopt %s --zopt-add-loss=loss=output 2>&1 | FileCheck %s --check-prefix=OUTPUT
// RUN: not zopt %s --zopt-add-loss=loss-average=rank 2>&1 | FileCheck %s --check-prefix=AVERAGE
// RUN: not zopt %s --zopt-add-loss=class-axis=2 2>&1 | FileCheck %s --check-prefix=AXIS

// LOSS: error: loss is 'hinge', expected cross_entropy, mse, bce_with_logits, l1, output or output:NAME
// LOGITS: error: no output is named 'probabilities'; outputs are 'ids', 'logits'
// INTEGERS: error: output 'ids' feeds the loss but holds 'i64'
// OUTPUT: error: output 'logits' is the loss but has 6 elements, expected 1
// AVERAGE: error: loss average is 'rank', expected global or micro-batch
// AXIS: error: class axis 2 is out of range for output 'logits' of rank 2
func.func @forward(%i: tensor<2xi64> {train.name = "i"}, %x: tensor<2x3xf32> {train.name = "x"}) -> (tensor<2xi64> {train.name = "ids"}, tensor<2x3xf32> {train.name = "logits"}) {
  return %i, %x : tensor<2xi64>, tensor<2x3xf32>
}
