#include "fastlic/latents/model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::latents {
namespace {

using nn::require;

// Asks the tables, since arrays of the same name may say anything.
double fewest_bits(const CdfTables& tables) {
  return tables.precision() - std::log2(static_cast<double>(tables.likeliest()));
}

void take_tables(Model& model, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y) {
  model.z_tables = std::move(z);
  model.y_tables = std::move(y);
  model.z_fewest_bits = fewest_bits(*model.z_tables);
  model.y_fewest_bits = fewest_bits(*model.y_tables);
}

nn::Thresholds read_thresholds(const nn::ArrayReader& reader, std::size_t rows) {
  const auto values = reader.int32s("y.thresholds");
  require(std::is_sorted(values.begin(), values.end()), "y.thresholds", "must be in ascending order");
  require(values.size() < rows, "y.thresholds",
          "choose among " + to_string(values.size() + 1) + " rows, the table has " + to_string(rows));
  nn::Thresholds out;
  out.count = values.size();
  std::size_t size = 1;
  while (size <= out.count) size *= 2;
  out.values.assign(size, std::numeric_limits<std::int32_t>::max());
  std::copy(values.begin(), values.end(), out.values.begin());
  return out;
}

Vector<std::int32_t> read_medians(const nn::ArrayReader& reader, const CdfTables& tables) {
  const auto medians = reader.int32s("z.median");
  require(!medians.empty() && medians.size() <= tables.rows(), "z.median",
          "has " + to_string(medians.size()) + " channels, the table of z " + to_string(tables.rows()));
  return {medians.begin(), medians.end()};
}

}  // namespace

void read_offsets(const nn::ArrayReader& reader, Model& model) {
  if (!reader.has("y.offsets")) return;
  const auto values = reader.int32s("y.offsets");
  require(values.size() == model.y_tables->rows(), "y.offsets",
          "has " + to_string(values.size()) + " rows, the table of y " + to_string(model.y_tables->rows()));
  for (const std::int32_t value : values) {
    require(value >= -nn::kOffsetLimit && value <= nn::kOffsetLimit, "y.offsets",
            "must lie within +-" + to_string(nn::kOffsetLimit));
  }
  model.offsets.assign(values.begin(), values.end());
}

std::size_t Model::sections() const noexcept {
  std::size_t last = 1;
  for (const Group& group : groups) {
    for (const Step& step : group.steps) {
      if (const auto* code = std::get_if<Code>(&step)) last = code->section;
    }
  }
  return 1 + last;
}

Model begin_model(const nn::Reader& read, std::shared_ptr<const CdfTables> z, std::shared_ptr<const CdfTables> y,
                  const String& z_input, const String& hyper, unsigned bits, unsigned last_bits) {
  Model model;
  take_tables(model, std::move(z), std::move(y));
  model.thresholds = read_thresholds(read.arrays(), model.y_tables->rows());
  model.z_median = read_medians(read.arrays(), *model.z_tables);
  model.z_input = read.requantiser(z_input, model.z_median.size(), bits);
  const Stack stack = read.stack(hyper, {model.z_median.size()}, {bits, last_bits, model.z_input.limit});
  require(nn::enlarges(stack) == nn::kHyperStride, hyper,
          "must enlarge its input 4 times, not " + to_string(nn::enlarges(stack)));
  require(stack.back().outputs <= 2 * nn::kMaxChannels, hyper, "has too many outputs");
  model.hyper = nn::network_of(stack, last_bits > nn::kMaxActivationBits);
  return model;
}

Model vary(const Model& base, const nn::Arrays& changes, std::shared_ptr<const CdfTables> z,
           std::shared_ptr<const CdfTables> y) {
  Model model = base;
  const nn::ArrayReader reader(changes);
  const bool contextual = model.wavefront.has_value();
  if (!contextual && !model.hyper_blocks.empty()) throw InvalidArgument("only models of kind wavefront vary");
  Layer& last = contextual ? model.wavefront->parameters.back() : std::get<Layer>(model.hyper.steps.back().op);
  const std::size_t number = (contextual ? model.wavefront->parameters.size() : model.hyper.steps.size()) - 1;
  const String head = (contextual ? "parameters." : "hyper.") + to_string(number);
  const auto begins = [](const String& name, const String& with) { return name.rfind(with, 0) == 0; };
  for (const auto& [name, array] : changes) {
    const bool known = name == "z.median" || name == "y.offsets" || begins(name, "z.tables.") ||
                       begins(name, "y.tables.") || begins(name, "z.input.") || begins(name, head + ".requantise.") ||
                       (contextual && (name == "context.bias" || begins(name, "y.input.")));
    require(known, name, "cannot differ from the model that shares its weights");
  }
  const auto rows = [](const CdfTables& tables) { return to_string(tables.rows()); };
  require(y->rows() == base.y_tables->rows(), "y.tables",
          "has " + rows(*y) + " rows in place of " + rows(*base.y_tables));
  take_tables(model, std::move(z), std::move(y));
  require(model.z_tables->rows() >= model.z_median.size(), "z.tables",
          "has " + rows(*model.z_tables) + " rows, there are " + to_string(model.z_median.size()) + " channels");
  const auto replace = [&](Requantiser& old, const String& name, unsigned max_bits) {
    if (!reader.has(name + ".multiplier")) return;
    Requantiser now = nn::read_requantiser(reader, name, old.channels, max_bits);
    require(now.limit == old.limit, name + ".bits", "cannot differ from those of the model that shares its weights");
    old = std::move(now);
  };
  if (reader.has("z.median")) {
    const std::size_t channels = model.z_median.size();
    model.z_median = read_medians(reader, *model.z_tables);
    require(model.z_median.size() == channels, "z.median", "must have " + to_string(channels) + " channels");
  }
  replace(model.z_input, "z.input", nn::kMaxActivationBits);
  require(!last.shuffled || !reader.has(head + ".requantise.multiplier"), head, "is shuffled and cannot differ");
  for (nn::Part& part : last.parts) replace(part.requantiser, head + ".requantise", nn::kMaxWideBits);
  read_offsets(reader, model);
  if (!contextual) return model;
  replace(model.y_input, "y.input", nn::kMaxActivationBits);
  if (reader.has("context.bias")) {
    Wavefront& own = *model.wavefront;
    const auto bias = reader.int32s("context.bias");
    require(bias.size() == own.reach.size(), "context.bias", "must have one number per output channel");
    for (std::size_t out = 0; out < bias.size(); ++out) {
      nn::require_fits("context", out, own.reach[out], bias[out]);
      own.context.parts[0].bias[out] = bias[out];
    }
  }
  return model;
}

}  // namespace fastlic::latents
