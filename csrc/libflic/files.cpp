#include "files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace flic::command {
namespace {

constexpr std::size_t kMost = std::size_t{1} << 30;  // no image and no stream has more; a device may go on for ever

[[noreturn]] void fail(const std::string& path, int error) {
  throw Failure((path == "-" ? "standard input or output" : path) + ": " + std::strerror(error));
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ > 2) ::close(number_);
  }
  int get() const { return number_; }
  int close() { return ::close(std::exchange(number_, -1)); }

 private:
  int number_;
};

Bytes read_up_to(const std::string& path, std::size_t most) {
  const Descriptor file(path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) fail(path, errno);
  struct stat status{};
  std::size_t room = 1 << 16, used = 0;
  if (::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode)) {
    room = static_cast<std::size_t>(std::min<std::uint64_t>(static_cast<std::uint64_t>(status.st_size), most)) + 1;
  }
  Bytes data;
  while (used < most) {
    if (used == data.size()) data.resize(std::max(room, 2 * used));
    const ssize_t got = ::read(file.get(), data.data() + used, std::min(data.size(), most) - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path, errno);
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
  }
  data.resize(used);
  return data;
}

void write_all(int file, const std::string& path, std::span<const std::uint8_t> content) {
  while (!content.empty()) {
    const ssize_t put = ::write(file, content.data(), content.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail(path, errno);
    content = content.subspan(static_cast<std::size_t>(put));
  }
}

char unfinished[PATH_MAX];  // for the handler of signals; empty: none

extern "C" void remove_unfinished(int signal) {
  if (unfinished[0] != '\0') ::unlink(unfinished);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// The name of a file that is not there yet, opened. It goes unless keep() is called.
class Unfinished {
 public:
  Unfinished(const std::string& path, const std::string& folder) : file_(open(path, folder)) {}
  ~Unfinished() {
    if (unfinished[0] != '\0') ::unlink(unfinished);
    unfinished[0] = '\0';
  }
  Descriptor& file() { return file_; }
  void keep() { unfinished[0] = '\0'; }

 private:
  static int open(const std::string& path, const std::string& folder) {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
      if (std::signal(signal, &remove_unfinished) == SIG_IGN) std::signal(signal, SIG_IGN);
    }
    auto number = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
    for (int tries = 0; tries < 100; ++tries, ++number) {
      const std::string name =
          folder + "/.flic-" + std::to_string(::getpid()) + "-" + std::to_string(number) + ".partial";
      if (name.size() >= sizeof unfinished) fail(path, ENAMETOOLONG);
      const int file = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (file >= 0) {
        std::strcpy(unfinished, name.c_str());
        return file;
      }
      if (errno != EEXIST) fail(path, errno);
    }
    fail(path, EEXIST);
  }

  Descriptor file_;
};

}  // namespace

Bytes read_whole(const std::string& path) {
  Bytes data = read_up_to(path, kMost + 1);
  if (data.size() > kMost) throw Failure(path + ": holds more than 2^30 bytes, which no such file does");
  return data;
}

Bytes read_beginning(const std::string& path, std::size_t most) { return read_up_to(path, most); }

void write_whole(const std::string& path, std::span<const std::uint8_t> content) {
  if (path == "-") return write_all(STDOUT_FILENO, path, content);
  struct stat there{};
  const bool exists = ::stat(path.c_str(), &there) == 0;
  if (!exists && errno != ENOENT) fail(path, errno);
  if (exists && S_ISDIR(there.st_mode)) fail(path, EISDIR);
  if (exists && ::access(path.c_str(), W_OK) != 0) fail(path, errno);
  if (exists && !S_ISREG(there.st_mode)) {
    Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (file.get() < 0) fail(path, errno);
    write_all(file.get(), path, content);
    if (file.close() != 0) fail(path, errno);
    return;
  }
  // Through a link the file behind it is replaced.
  std::string target = path;
  if (char* real = ::realpath(path.c_str(), nullptr); real != nullptr) {
    target = real;
    std::free(real);
  }
  const std::size_t slash = target.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : target.substr(0, slash);
  Unfinished partial(path, folder);
  if (exists && ::fchmod(partial.file().get(), there.st_mode & 0777) != 0) fail(path, errno);
  write_all(partial.file().get(), path, content);
  if (::fsync(partial.file().get()) != 0 && errno != EINVAL && errno != ENOSYS) fail(path, errno);
  if (partial.file().close() != 0) fail(path, errno);
  if (::rename(unfinished, target.c_str()) != 0) fail(path, errno);
  partial.keep();
}

}  // namespace flic::command
