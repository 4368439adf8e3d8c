// Models of one masked context or none (Minnen 2018; fastlic/entropy/model.py): JAHP and hyperpriors.
#include <algorithm>

#include "fastlic/latents/model.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::latents {
namespace {

using namespace nn;

// Channels of the latent, of which the last layer gives scales and means.
std::size_t latent_channels(const ArrayReader& reader, const Model& model, bool contextual) {
  if (!contextual) {
    require(model.hyper.output().channels % 2 == 0, "hyper", "must have an even number of outputs");
    return model.hyper.output().channels / 2;
  }
  const std::size_t layers = count_layers(reader, "parameters");
  require(layers > 0, "parameters", "has no layers");
  const std::size_t outputs = reader.int32s("parameters." + to_string(layers - 1) + ".bias").size();
  require(outputs > 0 && outputs % 2 == 0 && outputs <= 2 * kMaxChannels, "parameters",
          "must end with an even number of channels, got " + to_string(outputs));
  return outputs / 2;
}

// The context reads 12 taps, which are gathered: two rows above, then two positions to the left.
Wavefront read_wavefront(const Reader& read, Model& model) {
  const std::size_t m = model.latent_channels;
  model.y_input = read.requantiser("y.input", m, kMaxActivationBits);
  Wavefront out;
  const RawLayer context = read.raw("context", m, model.y_input.limit);
  require(context.rows == kContextTaps && context.columns == 1 && context.kind == kPlain && !context.transposed,
          "context", "must be a plain layer with a 12x1 kernel");
  out.reach = context.reach;
  Vector<Tap> taps;
  for (std::size_t t = 0; t < kContextTaps; ++t) taps.push_back({{static_cast<int>(t), 0}, t, 0});
  out.context = read.matrix(context, {m}, std::move(taps), kMaxActivationBits);

  // The first layer reads the hyperprior's features and the context; each has a share of its sums.
  const std::size_t outputs = out.context.outputs, features = model.hyper.output().channels;
  const std::int32_t limit = std::max(model.hyper.output().limit, out.context.limit());
  out.share = read.dense("parameters.0", {Block(features), Block::absent(outputs)}, kMaxWideBits, limit);
  out.parameters = read.dense_stack("parameters", {Block::absent(features), Block(outputs)},
                                    {kMaxActivationBits, kMaxWideBits, limit});
  return out;
}

}  // namespace

Model read_gaussian(const nn::Arrays& arrays, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y) {
  const ArrayReader reader(arrays);
  const Reader read(reader);
  const bool contextual = reader.has("context.weight");
  Model model = begin_model(read, std::move(z), std::move(y), "z.input", "hyper", kMaxActivationBits,
                            contextual ? kMaxActivationBits : kMaxWideBits);
  read_offsets(reader, model);
  model.latent_channels = latent_channels(reader, model, contextual);
  if (contextual) {
    model.wavefront = read_wavefront(read, model);
  } else {
    Group all;
    all.channels = model.latent_channels;
    all.steps.push_back(Code{Region{}, {}, 0, 1});
    model.groups.push_back(std::move(all));
  }
  const auto plain = [](const Layer& own) { require(own.curve.empty(), "exponents", "have no place in such models"); };
  for (std::size_t i = 0; i < model.hyper.steps.size(); ++i) plain(model.hyper.layer(i));
  if (contextual) std::for_each(model.wavefront->parameters.begin(), model.wavefront->parameters.end(), plain);
  return model;
}

}  // namespace fastlic::latents
