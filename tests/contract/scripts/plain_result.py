from remoterun import script

print("text beside the result")
script.result({"rows": 3})
