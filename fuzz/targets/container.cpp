// Arbitrary bytes as a .flic file, whose checksums the target mends where the first byte asks for it: an error, or the
// one spelling of what they say, whose leading sections do not need the rest. Any header and sections that pack() takes
// come back; a layout of other data never leads outside.
#include <algorithm>
#include <stdexcept>

#include "fastlic/container.hpp"
#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"
#include "harness.hpp"
#include "mending.hpp"

namespace {

using namespace fastlic;
using Bytes = std::span<const std::uint8_t>;
using container::Header;
using container::Layout;

bool same(const Header& a, const Header& b) {
  return a.version == b.version && a.model == b.model && a.quality == b.quality && a.fingerprint == b.fingerprint &&
         a.height == b.height && a.width == b.width && a.channels == b.channels;
}

bool same(const Layout& a, const Layout& b) {
  const auto equal = [](const Layout::Entry& x, const Layout::Entry& y) {
    return x.kind == y.kind && x.length == y.length && x.checksum == y.checksum;
  };
  return same(a.header, b.header) && a.lengths == b.lengths && a.checksums == b.checksums && a.framing == b.framing &&
         std::ranges::equal(a.attachments, b.attachments, equal);
}

void read(Bytes data) {
  try {
    const Layout layout = container::parse(data);
    fuzz::require(same(container::parse(data.first(layout.framing)), layout));
    const Vector<container::Attachment> attachments = container::attachments(layout, data);
    const Vector<Bytes> sections = container::sections(layout, data);
    const Vector<std::uint8_t> again = container::pack(layout.header, sections, attachments);
    fuzz::require(std::equal(again.begin(), again.end(), data.begin(), data.end()));
    std::size_t end = layout.framing;
    for (const container::Attachment& own : attachments) end += own.bytes.size();
    fuzz::require(container::attachments(layout, data.first(end)).size() == attachments.size());
    for (std::size_t count = 0; count <= sections.size(); ++count) {
      if (count > 0) end += sections[count - 1].size();
      const auto leading = container::sections(layout, data.first(end), count);
      fuzz::require(leading.size() == count);
      for (std::size_t i = 0; i < count; ++i) {
        fuzz::require(leading[i].data() == sections[i].data() && leading[i].size() == sections[i].size());
      }
    }
  } catch (const UnsupportedVersion&) {
    fuzz::require(data[4] > container::kVersion);
  } catch (const CorruptStream&) {
  }
}

void write(fuzz::Input& input) {
  Header header{};
  header.version = input.take<std::uint8_t>() % 5;
  header.model = input.take<std::uint8_t>();
  header.quality = input.take<std::uint8_t>();
  header.fingerprint = input.take<std::array<std::uint8_t, 8>>();
  header.height = input.take<std::uint32_t>() & 0x1FFFFF;
  header.width = input.take<std::uint32_t>() & 0x1FFFFF;
  header.channels = input.take<std::uint8_t>() % 6;
  Vector<Vector<std::uint8_t>> pieces(input.take<std::uint8_t>() % 5);
  Vector<container::Attachment> attachments;
  for (auto& piece : pieces) {
    const std::uint8_t kind = input.take<std::uint8_t>() % 6;
    piece = input.take_bytes(input.take<std::uint8_t>());
    attachments.push_back({kind, piece});
  }
  Vector<Vector<std::uint8_t>> sections(input.take<std::uint8_t>() % 67);
  for (auto& section : sections) section = input.take_bytes(input.take<std::uint8_t>());
  const Vector<Bytes> views(sections.begin(), sections.end());
  try {
    const Vector<std::uint8_t> data = container::pack(header, views, attachments);
    const Layout layout = container::parse(data);
    const Vector<Bytes> found = container::sections(layout, data);
    fuzz::require(same(layout.header, header) && found.size() == views.size());
    const auto equal = [](const container::Attachment& a, const container::Attachment& b) {
      return a.kind == b.kind && std::ranges::equal(a.bytes, b.bytes);
    };
    fuzz::require(std::ranges::equal(container::attachments(layout, data), attachments, equal));
    for (std::size_t i = 0; i < found.size(); ++i) fuzz::require(std::ranges::equal(found[i], views[i]));
  } catch (const std::invalid_argument&) {
    const auto side = [](std::uint32_t pixels) { return pixels >= 1 && pixels <= container::kMaxDimension; };
    bool ascend = true, alpha = false;
    for (std::size_t i = 0; i < attachments.size(); ++i) {
      ascend &= attachments[i].kind > (i > 0 ? attachments[i - 1].kind : 0);
      alpha |= attachments[i].kind == container::kAlpha;
    }
    const bool plain = header.channels == 3 && attachments.empty();
    fuzz::require(header.version < 1 || header.version > container::kVersion || header.model == 0 ||
                  !side(header.height) || !side(header.width) || views.empty() ||
                  views.size() > container::kMaxSections || (header.version < 3 && !plain) || header.channels < 1 ||
                  header.channels > 4 || !ascend || alpha != header.has_alpha());
  }
}

void misuse(fuzz::Input& input) {
  Layout layout{};
  layout.framing = input.take<std::uint16_t>();
  const std::size_t lengths = input.take<std::uint8_t>() % 67, checksums = input.take<std::uint8_t>() % 67;
  const std::size_t count = input.take<std::uint8_t>();
  for (std::size_t i = 0; i < lengths; ++i) {
    const auto shift = input.take<std::uint8_t>() % 64;
    layout.lengths.push_back(input.take<std::uint64_t>() >> shift);
  }
  for (std::size_t i = 0; i < (checksums == 66 ? lengths : checksums); ++i) {
    layout.checksums.push_back(0);  // that of no bytes
  }
  for (std::size_t i = input.take<std::uint8_t>() % 4; i > 0; --i) {
    const auto shift = input.take<std::uint8_t>() % 64;
    layout.attachments.push_back({1, input.take<std::uint64_t>() >> shift, 0});
  }
  const Vector<std::uint8_t> data = input.rest();
  const auto long_one = [](const Layout::Entry& own) { return own.length >> 35 != 0; };
  const bool none = std::ranges::any_of(layout.attachments, long_one) ||
                    layout.lengths.size() != layout.checksums.size() || lengths > container::kMaxSections ||
                    std::ranges::any_of(layout.lengths, [](std::uint64_t length) { return length >> 35 != 0; });
  bool refused = false;
  try {
    container::sections(layout, data, count < 128 ? std::optional(count) : std::nullopt);
  } catch (const std::invalid_argument&) {
    refused = true;
  } catch (const CorruptStream&) {
  }
  fuzz::require(refused == none);  // before any sum of lengths, which could overflow
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::Input input(data, size);
  const unsigned kind = input.take<std::uint8_t>();
  if (kind < 32) {
    write(input);
  } else if (kind < 64) {
    misuse(input);
  } else {
    Vector<std::uint8_t> bytes = input.rest();
    if (kind >= 96) fuzz::mend(bytes);
    read(bytes);
  }
  return 0;
}
