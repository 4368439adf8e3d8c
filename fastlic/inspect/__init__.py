"""``fastlic inspect``: analyses of codecs and what they code, by public methods of ``fastlic.Codec``; and a cluster."""
