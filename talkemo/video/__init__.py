"""Reading and writing of videos by ffmpeg."""
