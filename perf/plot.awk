# Plots every column of a CSV file over its first one, as an SVG with one panel a column.
#   awk -f perf/plot.awk series.csv >series.svg
BEGIN { FS = ","; width = 900; height = 150; left = 110; top = 30; gap = 40 }
NR == 1 { columns = NF; for (c = 1; c <= NF; c++) name[c] = $c; next }
NF == columns {
  for (c = 1; c <= columns; c++) {
    value[rows, c] = $c
    if (rows == 0 || $c > max[c]) max[c] = $c
    if (rows == 0 || $c < min[c]) min[c] = $c
  }
  rows++
}
function x(row) { return left + (width - left - 20) * (value[row, 1] - min[1]) / (max[1] - min[1] ? max[1] - min[1] : 1) }
# Panels begin at 0, so that a slope looks as large as it is.
function y(row, c) { return base - (height - 20) * value[row, c] / (max[c] ? max[c] : 1) }
END {
  printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", \
    width, top + (columns - 1) * (height + gap)
  print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
  for (c = 2; c <= columns; c++) {
    base = top + (c - 2) * (height + gap) + height
    printf "<text x=\"%d\" y=\"%d\">%s (highest %d)</text>\n", left, base - height + 6, name[c], max[c]
    printf "<path d=\"M%d %d V%d H%d\" fill=\"none\" stroke=\"#888\"/>\n", left, base - height + 20, base, width - 20
    printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%d</text>\n", left - 6, base - height + 24, max[c]
    printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">0</text>\n", left - 6, base
    printf "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%d %ss</text>\n", width - 20, base + 16, max[1], name[1]
    printf "<polyline fill=\"none\" stroke=\"#1f5fa8\" stroke-width=\"1.5\" points=\""
    for (r = 0; r < rows; r++) printf "%.1f,%.1f ", x(r), y(r, c)
    print "\"/>"
  }
  print "</svg>"
}
