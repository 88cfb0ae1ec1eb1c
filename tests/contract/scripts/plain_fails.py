import sys

print("plain and failing")
sys.exit(int(sys.argv[1]))
