// RUN: zopt %s --split-input-file --verify-diagnostics | FileCheck %s

#x = #plan.operand<f32, [2, 4, 9], [36, 1, 4]>
#w = #plan.operand<f32, [6, 2, 3], [6, 3, 1]>
#y = #plan.operand<f32, [2, 6, 5], [30, 1, 6]>
#b = #plan.operand<f32, [6], [1]>
// CHECK-LABEL: plan.sequence @micro_step
plan.sequence @micro_step {
  // CHECK: plan.convolution forward [@x, @w, @y, @b] strides [2] dilations [1] pads [1, 1] groups 2
  plan.convolution forward [@x, @w, @y, @b] strides [2] dilations [1] pads [1, 1] groups 2 {byte_offsets = array<i64: 0, 0, 64, 0>, scratch = @s, tensors = [#x, #w, #y, #b]}
  // CHECK: plan.convolution weight_grad [@x, @w, @y] strides [2]
  plan.convolution weight_grad [@x, @w, @y] strides [2] dilations [1] pads [1, 1] groups 2 {byte_offsets = array<i64: 0, 0, 0>, tensors = [#x, #w, #y]}
}

// -----

#x = #plan.operand<f32, [2, 4, 9], [36, 1, 4]>
#w = #plan.operand<f32, [6, 2, 3], [6, 3, 1]>
plan.sequence @micro_step {
  // expected-error @+1 {{expects 3 buffers, layouts and offsets, or 4 with a bias, but got 2, 2 and 2}}
  plan.convolution forward [@x, @w] strides [2] dilations [1] pads [1, 1] groups 2 {byte_offsets = array<i64: 0, 0>, tensors = [#x, #w]}
}

// -----

#x = #plan.operand<f32, [2, 4, 9], [36, 1, 4]>
#w = #plan.operand<f32, [6, 2, 3], [6, 3, 1]>
#y = #plan.operand<f32, [2, 6, 5], [30, 1, 6]>
#b = #plan.operand<f32, [6], [1]>
plan.sequence @micro_step {
  // expected-error @+1 {{has a bias, which only a forward convolution takes}}
  plan.convolution input_grad [@x, @w, @y, @b] strides [2] dilations [1] pads [1, 1] groups 2 {byte_offsets = array<i64: 0, 0, 0, 0>, tensors = [#x, #w, #y, #b]}
}

// -----

#x = #plan.operand<f32, [2, 4, 9], [36, 1, 4]>
#w = #plan.operand<f32, [6, 2, 3], [6, 3, 1]>
#y = #plan.operand<f32, [2, 6, 5], [30, 1, 6]>
plan.sequence @micro_step {
  // expected-error @+1 {{has strides, dilations and pads that do not belong to an input #plan.operand<f32, [2, 4, 9], [36, 1, 4]>}}
  plan.convolution forward [@x, @w, @y] strides [2, 2] dilations [1] pads [1, 1] groups 2 {byte_offsets = array<i64: 0, 0, 0>, tensors = [#x, #w, #y]}
}

// -----

#x = #plan.operand<f32, [2, 4, 9], [36, 1, 4]>
#w = #plan.operand<i64, [6, 2, 3], [6, 3, 1]>
#y = #plan.operand<f32, [2, 6, 5], [30, 1, 6]>
plan.sequence @micro_step {
  // expected-error @+1 {{expects float layouts of one rank, but got #plan.operand<i64, [6, 2, 3], [6, 3, 1]>}}
  plan.convolution forward [@x, @w, @y] strides [2] dilations [1] pads [1, 1] groups 2 {byte_offsets = array<i64: 0, 0, 0>, tensors = [#x, #w, #y]}
}

// -----

#x = #plan.operand<f32, [2, 4, 9], [36, 1, 4]>
#w = #plan.operand<f32, [6, 2, 3], [6, 3, 1]>
#y = #plan.operand<f32, [2, 6, 4], [24, 1, 6]>
plan.sequence @micro_step {
  // expected-error @+1 {{has sizes that do not agree}}
  plan.convolution forward [@x, @w, @y] strides [2] dilations [1] pads [1, 1] groups 2 {byte_offsets = array<i64: 0, 0, 0>, tensors = [#x, #w, #y]}
}
