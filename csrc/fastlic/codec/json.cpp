#include "fastlic/codec/json.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <numeric>

#include "fastlic/errors.hpp"
#include "fastlic/memory.hpp"

namespace fastlic::codec {
namespace {

constexpr int kMaxDepth = 16;
constexpr std::size_t kMaxValues = std::size_t{1} << 20;  // each takes a hundred bytes; a codec file has thousands

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Json whole() {
    Json out = value(0);
    space();
    if (at_ != text_.size()) fail("nothing may follow the value");
    return out;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw InvalidArgument(String("no JSON: ") + what + " at byte " + to_string(at_));
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
      ++at_;
  }
  bool take(char c) {
    space();
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c, const char* what) {
    if (!take(c)) fail(what);
  }

  Json value(int depth) {
    if (depth > kMaxDepth) fail("too many values inside each other");
    if (++values_ > kMaxValues) fail("too many values");
    space();
    Json out;
    const char first = peek();
    if (first == '{') {
      out.kind = Json::Kind::object;
      members(out, depth);
    } else if (first == '[') {
      out.kind = Json::Kind::array;
      ++at_;
      if (take(']')) return out;
      do out.items.push_back(value(depth + 1));
      while (take(','));
      expect(']', "a list ends with ]");
    } else if (first == '"') {
      out.kind = Json::Kind::text;
      out.text = text();
    } else if (first == '-' || is_digit(first)) {
      out.kind = Json::Kind::number;
      out.text = number();
    } else {
      for (const std::string_view word : {"true", "false", "null"}) {
        if (text_.substr(at_).starts_with(word)) {
          out.text = word;
          at_ += word.size();
          return out;
        }
      }
      fail("a value is missing");
    }
    return out;
  }

  void members(Json& out, int depth) {
    ++at_;
    if (take('}')) return;
    do {
      space();
      if (peek() != '"') fail("a name is missing");
      String name = text();
      expect(':', "a name is followed by :");
      out.names.push_back(std::move(name));
      out.items.push_back(value(depth + 1));
    } while (take(','));
    expect('}', "an object ends with }");
    Vector<std::string_view> names(out.names.begin(), out.names.end());
    std::sort(names.begin(), names.end());
    if (std::adjacent_find(names.begin(), names.end()) != names.end()) fail("an object names something twice");
  }

  String number() {
    const std::size_t begin = at_;
    if (peek() == '-') ++at_;
    if (peek() == '0') {
      ++at_;
    } else {
      digits();
    }
    if (peek() == '.') {
      ++at_;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    return String(text_.substr(begin, at_ - begin));
  }
  void digits() {
    if (!is_digit(peek())) fail("a digit is missing");
    while (is_digit(peek())) ++at_;
  }

  String text() {
    String out;
    ++at_;
    while (true) {
      if (at_ >= text_.size()) fail("a text does not end");
      const char c = text_[at_++];
      if (c == '"') return out;
      if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a text");
      if (c == '\\') {
        escape(out);
      } else {
        out += c;
      }
    }
  }
  void escape(String& out) {
    constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
    const char c = peek();
    ++at_;
    if (c != 'u') {
      const std::size_t found = c == '\0' ? from.npos : from.find(c);
      if (found == from.npos) fail("no such escape in a text");
      out += to[found];
      return;
    }
    std::uint32_t code = hex();
    if (code >= 0xDC00 && code < 0xE000) fail("half a surrogate pair in a text");
    if (code >= 0xD800 && code < 0xDC00) {
      if (peek() != '\\') fail("half a surrogate pair in a text");
      ++at_;
      if (peek() != 'u') fail("half a surrogate pair in a text");
      ++at_;
      const std::uint32_t low = hex();
      if (low < 0xDC00 || low >= 0xE000) fail("half a surrogate pair in a text");
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    const auto put = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
    if (code < 0x80) {
      put(code);
    } else if (code < 0x800) {
      put(0xC0 | code >> 6);
      put(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      put(0xE0 | code >> 12);
      put(0x80 | (code >> 6 & 0x3F));
      put(0x80 | (code & 0x3F));
    } else {
      put(0xF0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3F));
      put(0x80 | (code >> 6 & 0x3F));
      put(0x80 | (code & 0x3F));
    }
  }
  std::uint32_t hex() {
    std::uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = peek();
      if (std::isxdigit(static_cast<unsigned char>(c)) == 0) fail("four hexadecimal digits follow \\u");
      code = code << 4 | static_cast<std::uint32_t>(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
      ++at_;
    }
    return code;
  }

  std::string_view text_;
  std::size_t at_ = 0, values_ = 0;
};

// The code point of UTF-8 at `at`, which moves behind it; bytes that are none count as themselves.
std::uint32_t code_point(std::string_view text, std::size_t& at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const std::uint32_t first = byte(at++);
  const std::size_t more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : first >= 0xC0 ? 1 : 0;
  if (more == 0 || at + more > text.size()) return first;
  std::uint32_t code = first & (0x3Fu >> more);
  for (std::size_t i = 0; i < more; ++i) code = code << 6 | (byte(at++) & 0x3F);
  return code;
}

void write(const String& text, String& out) {
  constexpr std::string_view from = "\"\\\b\f\n\r\t", to = "\"\\bfnrt";
  const auto escaped = [&](std::uint32_t code) {
    constexpr std::string_view digits = "0123456789abcdef";
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += digits[code >> shift & 15];
  };
  out += '"';
  for (std::size_t at = 0; at < text.size();) {
    const std::uint32_t code = code_point(text, at);
    const std::size_t found = code < 0x80 ? from.find(static_cast<char>(code)) : from.npos;
    if (found != from.npos) {
      out += '\\';
      out += to[found];
    } else if (code >= 0x20 && code < 0x7F) {
      out += static_cast<char>(code);
    } else if (code < 0x10000) {
      escaped(code);
    } else {
      escaped(0xD800 + ((code - 0x10000) >> 10));
      escaped(0xDC00 + ((code - 0x10000) & 0x3FF));
    }
  }
  out += '"';
}

void write(const Json& value, bool in_order, String& out) {
  switch (value.kind) {
    case Json::Kind::text: write(value.text, out); return;
    case Json::Kind::array:
      out += '[';
      for (const Json& item : value.items) {
        if (&item != &value.items.front()) out += ',';
        write(item, in_order, out);
      }
      out += ']';
      return;
    case Json::Kind::object: {
      Vector<std::size_t> order(value.items.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      if (in_order) {
        std::sort(order.begin(), order.end(), [&](auto a, auto b) { return value.names[a] < value.names[b]; });
      }
      out += '{';
      for (const std::size_t i : order) {
        if (i != order.front()) out += ',';
        write(value.names[i], out);
        out += ':';
        write(value.items[i], in_order, out);
      }
      out += '}';
      return;
    }
    default: out += value.text;
  }
}

}  // namespace

const Json* Json::find(std::string_view name) const noexcept {
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? nullptr : &items[static_cast<std::size_t>(found - names.begin())];
}

std::optional<std::uint64_t> Json::count() const noexcept {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  if (kind != Kind::number) return {};
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value > std::uint64_t{1} << 53) return {};
  return value;
}

Json parse_json(std::string_view text) { return Parser(text).whole(); }

String written(const Json& value, bool sorted) {
  String out;
  write(value, sorted, out);
  return out;
}

}  // namespace fastlic::codec
