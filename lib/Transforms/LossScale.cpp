//===- LossScale.cpp - the loss scale of fp16 -----------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LossScale.h"
#include "StepStates.h"
#include "zopt/Dialect/Train/TrainBuilders.h"

using namespace mlir;
using namespace zopt;
using namespace zopt::train;

void zopt::scaleLoss(ModuleOp module, func::FuncOp microStep, const LossScaleSettings &settings) {
  Builder attributes(module.getContext());
  NamedAttrList list;
  createScalarState(module, kLossScale, attributes.getF32Type(), settings.initial);
  if (settings.dynamic) {
    createScalarState(module, kStableSteps, attributes.getF32Type(), 0.0);
    createScalarState(module, kHysteresis, attributes.getF32Type(), double(settings.hysteresis));
    createScalarState(module, kScaleExhausted, attributes.getF32Type(), 0.0);
    list.set("window", attributes.getI64IntegerAttr(settings.window));
    list.set("hysteresis", attributes.getI64IntegerAttr(settings.hysteresis));
    if (settings.consecutiveHysteresis)
      list.set("consecutive", attributes.getUnitAttr());
    list.set("minimum", attributes.getF64FloatAttr(settings.minimum));
  }
  module->setAttr(kLossScaleAttribute, list.getDictionary(module.getContext()));
  for (BackwardOp backward : microStep.getOps<BackwardOp>()) {
    OpBuilder builder(backward);
    Value scale = ReadStateOp::create(builder, backward.getLoc(), backward.getSeed().getType(), kLossScale);
    backward.getSeedMutable().assign(mul(builder, backward.getLoc(), backward.getSeed(), scale));
  }
}

void zopt::updateLossScale(OpBuilder &builder, ModuleOp module, Value scale, Value isFinite) {
  auto settings = module->getAttrOfType<DictionaryAttr>(kLossScaleAttribute);
  auto window = settings ? settings.getAs<IntegerAttr>("window") : IntegerAttr();
  if (!window)
    return;
  Location loc = scale.getLoc();
  Type type = scale.getType(), elementType = getTensorType(scale).getElementType();
  auto number = [&](double value) { return scalar(builder, loc, elementType, value); };
  auto read = [&](StringRef name) -> Value { return ReadStateOp::create(builder, loc, type, name); };
  auto write = [&](StringRef name, Value value) { WriteStateOp::create(builder, loc, name, value); };
  Value one = number(1), two = number(2), none = number(0),
        full = number(settings.getAs<IntegerAttr>("hysteresis").getInt());
  Value minimum = number(settings.getAs<FloatAttr>("minimum").getValueAsDouble());
  Value stable = read(kStableSteps), hysteresis = read(kHysteresis);

  // After an overflow: the scale halves, or one of the overflows that it endures is used up.
  Value falls = compare(builder, loc, ComparePredicate::le, hysteresis, one);
  Value lower = MaxOp::create(builder, loc, type, div(builder, loc, scale, two), minimum);
  Value scaleAfterOverflow = select(builder, loc, falls, lower, scale);
  Value hysteresisAfterOverflow = select(builder, loc, falls, hysteresis, sub(builder, loc, hysteresis, one));
  Value cannotFall =
      AndOp::create(builder, loc, falls.getType(), falls, compare(builder, loc, ComparePredicate::le, scale, minimum));

  // After a finite step: it doubles behind every `window` further ones that follow the first.
  Value grows = compare(builder, loc, ComparePredicate::ge, stable, number(window.getInt()));
  Value scaleAfterStep = select(builder, loc, grows, mul(builder, loc, scale, two), scale);
  Value stableAfterStep = select(builder, loc, grows, one, add(builder, loc, stable, one));
  Value hysteresisAfterStep = settings.contains("consecutive") ? full : select(builder, loc, grows, full, hysteresis);

  write(kLossScale, select(builder, loc, isFinite, scaleAfterStep, scaleAfterOverflow));
  write(kStableSteps, select(builder, loc, isFinite, stableAfterStep, none));
  write(kHysteresis, select(builder, loc, isFinite, hysteresisAfterStep, hysteresisAfterOverflow));
  write(kScaleExhausted, select(builder, loc, isFinite, none, train::cast(builder, loc, cannotFall, elementType)));
}
